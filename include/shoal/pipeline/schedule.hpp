#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::pipeline {

/// How a pipeline orders its work. p stages, m micro-batches, v chunks a rank; F, B, W are the
/// times of forward, backward_input and backward_weight of one rank and micro-batch; "bubble" is
/// idle time over work.
///   gpipe        Huang et al., arXiv:1811.06965. All forwards, then all backwards. Bubble (p-1)/m;
///                keeps m micro-batches.
///   one_f_one_b  Narayanan et al., arXiv:2006.09503 (PipeDream-Flush). Bubble (p-1)/m; stage s
///                keeps p-s micro-batches.
///   interleaved  Narayanan et al., arXiv:2104.04473. v chunks a rank, dealt round-robin. Bubble
///                (p-1)/(v m) when p divides m; any m is allowed.
///   zb_h1        Qi et al., arXiv:2401.10241, ZB-H1. 1F1B with W split off and delayed into the
///                bubbles as far as the memory of 1F1B's first stage allows: every stage keeps at
///                most p micro-batches. Bubble (p-1)(F+B-W)/(m(F+B+W)).
///   zbv          Qi et al., arXiv:2401.10241, section 6, ZB-V. Two chunks a rank in a V; keeps
///                2p chunks, the same memory. No bubble inside when F = B = W and m >= 2p-1.
enum class ScheduleKind { gpipe, one_f_one_b, interleaved, zb_h1, zbv };
/// The value of parallel.schedule: gpipe | 1f1b | interleaved | zb-h1 | zbv.
[[nodiscard]] std::string_view name(ScheduleKind kind);
[[nodiscard]] ScheduleKind schedule_from_name(std::string_view text);  ///< InputError when unknown

/// What a stage does with one micro-batch of one of its chunks.
enum class Verb {
  forward,
  backward,  ///< backward_input and backward_weight at once
  backward_input,
  backward_weight
};
[[nodiscard]] std::string_view name(Verb verb);

struct Action {
  Verb verb = Verb::forward;
  int chunk = 0;  ///< local: 0 to chunks - 1
  int micro_batch = 0;
  bool operator==(const Action&) const = default;
};
using ActionList = std::vector<Action>;
[[nodiscard]] std::string to_string(const Action& action);  ///< "forward of chunk 0, micro-batch 3"

/// Everything a schedule depends on.
struct ScheduleShape {
  ScheduleKind kind = ScheduleKind::one_f_one_b;
  int stages = 1;         ///< p, pipeline ranks
  int micro_batches = 1;  ///< m, any number >= 1
  int chunks = 1;  ///< v a rank: 1; interleaved: >= 2; zbv: 2 (with one stage 1 is allowed too)
  [[nodiscard]] int model_chunks() const { return stages * chunks; }
};
/// InputError that names parallel.schedule when the numbers do not fit the kind.
void require_valid(const ScheduleShape& shape);

/// The actions of pipeline rank `rank`, in the order in which it executes them. Each chunk and
/// micro-batch has one forward and either one backward, or one backward_input and one
/// backward_weight. Micro-batches of a chunk keep their order in every verb. Deterministic.
[[nodiscard]] ActionList make_schedule(const ScheduleShape& shape, int rank);
/// The same for all ranks.
[[nodiscard]] std::vector<ActionList> make_schedules(const ScheduleShape& shape);

/// Where a model chunk lives.
struct ChunkPlace {
  int rank = 0;
  int chunk = 0;
  bool operator==(const ChunkPlace&) const = default;
};
/// Which chunk of the model (0 holds the embedding, the last one the head) is local `chunk` of
/// `rank`: round-robin, rank + chunk * stages; in a V, chunk 1 of rank r is 2 * stages - 1 - r.
[[nodiscard]] int model_chunk(const ScheduleShape& shape, const ChunkPlace& place);
[[nodiscard]] ChunkPlace place_of(const ScheduleShape& shape, int model_chunk);

/// Place of a (chunk, micro-batch) in a list of all of them, chunk by chunk.
[[nodiscard]] constexpr std::size_t pair_index(int chunk, int micro_batch, int micro_batches) {
  return static_cast<std::size_t>(chunk) * static_cast<std::size_t>(micro_batches) +
         static_cast<std::size_t>(micro_batch);
}

/// Which slot each (chunk, micro-batch) of a rank uses; the lowest free one is taken.
struct SlotPlan {
  int count = 0;           ///< slots needed: the peak of live micro-batches
  std::vector<int> slots;  ///< [chunks * micro_batches]; -1 where none is taken
  int micro_batches = 1;
  [[nodiscard]] int of(int chunk, int micro_batch) const {
    return slots[pair_index(chunk, micro_batch, micro_batches)];
  }
};
/// Saved activations: from forward until backward or backward_weight is done.
[[nodiscard]] SlotPlan assign_slots(std::span<const Action> actions, const ScheduleShape& shape);
/// What backward_input leaves for a delayed backward_weight, recomputed activations among it: from
/// the one to the other. None without split backwards. Fewer are alive than saved slots, which is
/// why recompute saves memory in zero-bubble schedules too: stage s of ZB-H1 has s + 1.
[[nodiscard]] SlotPlan assign_delta_slots(std::span<const Action> actions,
                                          const ScheduleShape& shape);

}  // namespace shoal::pipeline
