#include "shoal/comm/watchdog.hpp"

#include <chrono>
#include <string>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/comm/environment.hpp"

namespace shoal::comm {

Watchdog::Watchdog(std::shared_ptr<Journal> journal, Options options)
    : journal_{std::move(journal)}, options_{std::move(options)} {
  require(options_.timeout_s > 0.0 && options_.poll_s > 0.0,
          "the watchdog's timeout must be positive seconds");
  if (!options_.on_timeout) {
    options_.on_timeout = [](const TraceEntry&) {
      Environment::abort(static_cast<int>(ExitCode::failure));
    };
  }
  thread_ = std::thread{[this] { watch(); }};
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Watchdog::watch() {
  const std::chrono::duration<double> poll{options_.poll_s};
  std::unique_lock lock{mutex_};
  while (!wake_.wait_for(lock, poll, [this] { return stopping_; })) {
    const auto late = journal_->in_flight();
    if (!late || journal_->age_s(*late) < options_.timeout_s) continue;
    bark(*late);
    return;
  }
}

void Watchdog::bark(const TraceEntry& late) {
  log::error("host " + Environment::host_name() + ": " + std::string{name(late.op)} + " #" +
             std::to_string(late.sequence) + " on " + late.group + " (" +
             std::to_string(late.bytes) + " bytes) has not ended for " +
             std::to_string(static_cast<long>(journal_->age_s(late))) +
             " s; last operations of this rank:\n" + journal_->describe());
  options_.on_timeout(late);
}

}  // namespace shoal::comm
