#pragma once
// Shared by the public op and the CUDA back end of route_plan.
#include <algorithm>

#include "shoal/base/math.hpp"
#include "shoal/ops/permute.hpp"

namespace shoal::ops {

inline constexpr std::int64_t kMaxGpuPlanExperts = 1024;  // counters of a block in shared memory
inline constexpr std::int64_t kPlanRound = 1024;          ///< slots that a block ranks at a time

/// Slots of the chunk that one block ranks: whole rounds, few chunks, since every block adds up the
/// counts of all chunks.
[[nodiscard]] inline std::int64_t plan_chunk(std::int64_t slots) {
  constexpr std::int64_t kMostChunks = 128;
  return kPlanRound * std::max<std::int64_t>(ceil_div(slots, kMostChunks * kPlanRound), 1);
}

/// i32 [chunks, E]: how often each expert occurs in each chunk of slots.
inline TensorView route_plan_histograms(const Exec& exec, const RoutePlan& a) {
  const std::int64_t slots = a.index_TK.elements();
  return scratch(exec, {ceil_div(slots, plan_chunk(slots)), a.count_E.dim(0)}, DType::i32);
}

}  // namespace shoal::ops
