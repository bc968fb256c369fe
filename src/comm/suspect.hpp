#pragma once
#include <span>
#include <string>

#include "comm/progress.hpp"

namespace shoal::comm {

struct SuspectSearch {
  std::span<const RankProgress> ranks;  ///< of one host
  std::size_t from = 0;                 ///< index of a rank that waits
  double now_s = 0.0;                   ///< monotonic_s()
  double silent_s = 2.0;                ///< without a sign of life for longer: stopped or lost
};
struct Suspect {
  std::size_t rank = 0;    ///< index into `ranks`
  std::size_t waiter = 0;  ///< that waits for it; `rank` itself when nobody of this host is behind
};
/// Follows who waits for whom, from a rank that waits to one that does not, or that is silent.
[[nodiscard]] Suspect find_suspect(const SuspectSearch& search);

/// "rank 1 (pid 4711) is behind: it last finished call 11 of dp; rank 0 waits in call 12 of dp,
/// all_reduce (4096 bytes), for 30 s. Rank 1 is stopped by a signal."
[[nodiscard]] std::string describe_suspect(const SuspectSearch& search);

}  // namespace shoal::comm
