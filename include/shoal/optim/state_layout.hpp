#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "shoal/ops/optimizer.hpp"
#include "shoal/parallel/shard_plan.hpp"

namespace shoal::optim {

/// Where the states of a parameter's held rows lie: local elements [first, first + count) at
/// [offset, ...) of the state buffers beside its weight buffer, in the order of the local slice.
struct StateBlock {
  bool keep_f32 = false;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t offset = 0;
};

/// What one rank updates and counts, from its ShardPlan alone: no memory, no communication.
struct StateLayout {
  std::vector<StateBlock> blocks;  ///< one for each parameter, in the layout's order
  std::int64_t elem_count = 0;     ///< elements of the state buffers beside the elem buffer
  std::int64_t f32_count = 0;      ///< ... and beside the f32 buffer
  std::vector<ops::UpdateSegment> elem, f32;  ///< what to update, not cut
  std::vector<ops::SumRun> counted;  ///< of the gradient buffer: this rank's part of the norm
  bool counts_all = true;            ///< the whole gradient buffer instead

  [[nodiscard]] std::int64_t count(bool keep_f32) const {
    return keep_f32 ? f32_count : elem_count;
  }
  [[nodiscard]] const std::vector<ops::UpdateSegment>& segments(bool keep_f32) const {
    return keep_f32 ? f32 : elem;
  }
};
/// `keyed`: segments end where random numbers could not go on, for stochastic rounding; otherwise
/// neighbours are merged.
[[nodiscard]] StateLayout make_state_layout(const parallel::ShardPlan& plan, bool keyed);

/// Key of a parameter's random numbers: of its name, hence the same on any layout.
[[nodiscard]] std::uint32_t rounding_stream(std::string_view name);

}  // namespace shoal::optim
