#include "shoal/train/stop_condition.hpp"

#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <string_view>

namespace shoal::train {
namespace {

// A signal handler can reach nothing else: the one flag it writes.
std::atomic<std::int32_t> g_seen{0};
static_assert(std::atomic<std::int32_t>::is_always_lock_free);

extern "C" void on_signal(int number) {
  const auto reason = number == SIGUSR1 ? StopReason::user_signal : StopReason::terminate;
  g_seen.store(static_cast<std::int32_t>(reason));
  if (number != SIGUSR1) std::signal(number, SIG_DFL);  // the second one is meant
}

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1};

std::optional<std::int64_t> slurm_end() {
  const char* text = std::getenv("SLURM_JOB_END_TIME");
  if (text == nullptr) return std::nullopt;
  const std::string_view view{text};
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), seconds);
  if (error != std::errc{} || end != view.data() + view.size()) return std::nullopt;
  return seconds;
}

}  // namespace

std::string describe(StopReason reason) {
  switch (reason) {
    case StopReason::none:
      return "not stopped";
    case StopReason::time_limit:
      return "training.max_hours is reached";
    case StopReason::job_end:
      return "the job's time is about to end";
    case StopReason::user_signal:
      return "SIGUSR1";
    case StopReason::terminate:
      return "SIGTERM or SIGINT";
  }
  return "unknown";
}

SignalWatch::SignalWatch() {
  g_seen.store(0);
  for (const int number : kSignals) std::signal(number, on_signal);
}
SignalWatch::~SignalWatch() {
  for (const int number : kSignals) std::signal(number, SIG_DFL);
}
StopReason SignalWatch::seen() const {
  return static_cast<StopReason>(g_seen.load());
}

StopCondition::StopCondition(const Limits& limits) : limits_{limits}, job_end_{slurm_end()} {}

StopReason StopCondition::local(double step_s) const {
  StopReason reason = signals_.seen();
  const auto raise_to = [&reason](StopReason other) { reason = std::max(reason, other); };
  if (limits_.max_hours > 0.0 && clock_.seconds() + step_s >= limits_.max_hours * 3600.0) {
    raise_to(StopReason::time_limit);
  }
  const auto now = static_cast<double>(std::time(nullptr));
  if (job_end_ && now + step_s + limits_.margin_s >= static_cast<double>(*job_end_)) {
    raise_to(StopReason::job_end);
  }
  return reason;
}

StopReason StopCondition::agree(const Communicator& world, double step_s) const {
  const auto mine = static_cast<std::int32_t>(local(step_s));
  return static_cast<StopReason>(world.all_reduce_value(mine, comm::ReduceOp::max));
}

}  // namespace shoal::train
