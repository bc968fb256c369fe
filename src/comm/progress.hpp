#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "shoal/comm/journal.hpp"

namespace shoal::comm {

/// Seconds of the machine's monotonic clock, comparable between the processes of one host.
[[nodiscard]] double monotonic_s();

/// What one rank has done in one of its groups. Collectives are counted, not messages between two
/// ranks, so that equal numbers of two members mean the same collective.
struct GroupProgress {
  static constexpr std::size_t kNameBytes = 24;
  std::uint64_t id = 0;
  std::array<char, kNameBytes> name{};
  std::atomic<std::int64_t> begun{0};
  std::atomic<std::int64_t> finished{0};
};

/// The operation a rank waits in.
struct CurrentOperation {
  std::atomic<int> group{-1};  ///< index into RankProgress::groups; -1: none, or not tracked
  std::atomic<int> op{-1};     ///< an Operation; -1: the rank is outside of comm
  std::atomic<std::int64_t> number{-1};  ///< in the group; -1 for messages between two ranks
  std::atomic<std::int64_t> bytes{0};
  std::atomic<double> since_s{0.0};
};

/// Progress of one rank, written by it alone and read by every rank of its host: it lies in memory
/// that they share (board.hpp), so that it can be read while its writer is stopped.
struct RankProgress {
  static constexpr int kMaxGroups = 64;  ///< further groups are not compared over ranks
  std::atomic<int> rank{-1};             ///< in the world
  std::atomic<int> pid{0};
  std::atomic<double> alive_s{0.0};  ///< monotonic_s() of the watchdog's last sign of life
  CurrentOperation current;
  std::atomic<int> num_groups{0};
  std::array<GroupProgress, kMaxGroups> groups;

  /// Index of the group, added when it is new; -1 when there is no room.
  int open_group(std::uint64_t id, std::string_view name);
  [[nodiscard]] const GroupProgress* find(std::uint64_t id) const;
  /// Groups and operations; not who this is.
  void copy_from(const RankProgress& other);
};

[[nodiscard]] std::string_view name_of(const GroupProgress& group);

}  // namespace shoal::comm
