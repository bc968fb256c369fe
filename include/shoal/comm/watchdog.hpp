#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "shoal/comm/communicator.hpp"
#include "shoal/comm/journal.hpp"

namespace shoal::comm {

class ProgressBoard;  // what the ranks of a host see of each other

/// A thread that ends the job when one operation stays in flight for longer than the timeout. On
/// that every rank of the host prints its operation and the end of its ring buffer, and the first
/// one says which rank is behind, in which collective, and whether it is stopped. Ranks of another
/// host are not seen: there each host tells its own part.
class Watchdog {
 public:
  struct Options {
    double timeout_s = 600.0;
    double poll_s = 0.5;
    std::size_t dump_lines = 32;  ///< of the ring buffer
    /// What to do after printing; by default Environment::abort(1).
    std::function<void(const TraceEntry&)> on_timeout;
    /// One message of several lines; by default to standard error on every rank.
    std::function<void(std::string_view)> print;
  };

  /// Watches this rank alone.
  Watchdog(std::shared_ptr<Journal> journal, Options options);
  /// Compares the ranks of each host. Collective.
  Watchdog(const Communicator& world, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Ends what the device waits in, before the job is aborted (CollectivesFactory::abort_hook). The
  /// watchdog is there before the transports, so it learns of them later.
  void set_before_abort(std::function<void()> end_device_work);

 private:
  Watchdog(std::shared_ptr<Journal> journal, std::shared_ptr<ProgressBoard> board, Options options);
  void watch();
  void bark(const TraceEntry& late);
  [[nodiscard]] std::string own_state() const;
  [[nodiscard]] std::string who_is_behind() const;

  std::shared_ptr<Journal> journal_;
  std::shared_ptr<ProgressBoard> board_;
  Options options_;
  std::function<void()> before_abort_;
  std::mutex mutex_;  ///< of what follows, and of before_abort_
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace shoal::comm
