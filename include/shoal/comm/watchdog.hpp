#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "shoal/comm/journal.hpp"

namespace shoal::comm {

/// A thread that ends the job when one operation stays in flight for longer than the timeout. It
/// prints the operation and the ring buffer first: compare ranks, the lowest sequence is late.
class Watchdog {
 public:
  struct Options {
    double timeout_s = 600.0;
    double poll_s = 1.0;
    /// What to do after printing; by default Environment::abort(1).
    std::function<void(const TraceEntry&)> on_timeout;
  };

  Watchdog(std::shared_ptr<Journal> journal, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void watch();
  void bark(const TraceEntry& late);

  std::shared_ptr<Journal> journal_;
  Options options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace shoal::comm
