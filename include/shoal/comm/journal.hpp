#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::comm {

enum class Operation {
  barrier,
  broadcast,
  all_reduce,
  reduce_scatter,
  all_gather,
  all_gather_v,
  gather_v,
  all_to_all,
  all_to_all_v,
  send,
  recv,
  send_recv,
  send_wait,  ///< until a message sent before was taken
  split,
  launch,  ///< of a graph with the collectives of a whole step
};
inline constexpr int kNumOperations = 15;
[[nodiscard]] std::string_view name(Operation op);
/// Whether every rank of the group takes part; the others are messages between two ranks.
[[nodiscard]] bool involves_all_ranks(Operation op);

struct RankProgress;  // what the other ranks of a host can see of this one

/// Host waits on a device, the only ones permitted inside a step: named, counted, timed.
class WaitLog {
 public:
  struct Total {
    std::int64_t count = 0;
    double seconds = 0.0;
  };
  void add(std::string_view event, double seconds);
  [[nodiscard]] std::map<std::string, Total, std::less<>> totals() const;
  /// One line an event, "  name: count, seconds"; empty when nothing waited.
  [[nodiscard]] std::string describe() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Total, std::less<>> totals_;
};

/// One collective in the ring buffer.
struct TraceEntry {
  std::int64_t sequence = -1;  ///< counts this rank's operations; the lowest rank is the suspect
  Operation op = Operation::barrier;
  std::string group;               ///< name of the communicator
  int group_index = -1;            ///< among the groups that this rank is in; -1: not tracked
  std::int64_t group_number = -1;  ///< counts the group's collectives; -1: between two ranks
  std::int64_t bytes = 0;  ///< this rank's payload (sent, or received where it only receives)
  bool done = false;
  bool posted = false;    ///< under way while the host works: nobody waits in it yet
  double start_s = 0.0;   ///< since the journal began
  double waited_s = 0.0;  ///< the host waits in it since then; start_s unless it was posted
  double wall_s = 0.0;    ///< 0 while in flight
};

/// What this rank did on the wire: the last operations, bytes by operation, host waits. Shared by
/// a world communicator and everything split from it; safe to read from another thread.
class Journal {
 public:
  struct Traffic {
    std::int64_t calls = 0;
    std::int64_t bytes = 0;
    double seconds = 0.0;  ///< that the host waited in them
  };

  explicit Journal(std::int64_t capacity);
  ~Journal();

  /// Announces a group, so that its members can be compared before their first operation. The id
  /// is the same on all members and unique among the groups of a rank; the result goes to begin().
  int open_group(std::uint64_t id, std::string_view name);
  /// Operations may overlap, as those of a device do; each is ended by its sequence.
  std::int64_t begin(Operation op, std::string_view group, std::int64_t bytes,
                     int group_index = -1);
  /// The same for an operation that the host does not wait in: it is not in flight until wait().
  std::int64_t post(Operation op, std::string_view group, std::int64_t bytes, int group_index = -1);
  /// The host waits in a posted operation from now on.
  void wait(std::int64_t sequence);
  void end(std::int64_t sequence);

  [[nodiscard]] std::vector<TraceEntry> entries() const;  ///< oldest first
  /// The oldest that has not ended, posted ones aside: operations nest where one overlaps an
  /// exchange.
  [[nodiscard]] std::optional<TraceEntry> in_flight() const;
  /// Since the host waits in it.
  [[nodiscard]] double age_s(const TraceEntry& entry) const;
  [[nodiscard]] std::array<Traffic, kNumOperations> traffic() const;
  [[nodiscard]] Traffic traffic(Operation op) const;
  /// The ring buffer, or its last `lines`, one line an operation.
  [[nodiscard]] std::string describe(std::size_t lines = ~std::size_t{0}) const;
  [[nodiscard]] WaitLog& waits() { return waits_; }
  /// From now on progress is written to `where`, which starts with what was reached so far.
  void publish_to(std::shared_ptr<RankProgress> where);

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] double now_s() const;
  [[nodiscard]] TraceEntry& at(std::int64_t sequence);
  [[nodiscard]] const TraceEntry& at(std::int64_t sequence) const;
  TraceEntry& enter(Operation op, std::string_view group, std::int64_t bytes, int group_index);
  void publish_current();
  void show_oldest_open();

  mutable std::mutex mutex_;
  Clock::time_point start_ = Clock::now();
  std::vector<TraceEntry> ring_;
  std::int64_t next_ = 0;
  std::int64_t oldest_open_ = 0;  ///< the host waits in none before it; next_ when in none at all
  std::shared_ptr<RankProgress> progress_;
  std::array<Traffic, kNumOperations> traffic_{};
  WaitLog waits_;
};

}  // namespace shoal::comm
