#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "shoal/base/clock.hpp"
#include "shoal/comm/communicator.hpp"

namespace shoal::train {

/// Why a run ends before its last step, ordered: the largest wins when ranks differ.
enum class StopReason : std::int32_t { none = 0, time_limit, job_end, user_signal, terminate };
[[nodiscard]] std::string describe(StopReason reason);

/// Catches SIGTERM, SIGINT and SIGUSR1 for its lifetime; a second SIGINT or SIGTERM kills as usual.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  [[nodiscard]] StopReason seen() const;
};

/// When to stop with a checkpoint. All ranks ask together at a step boundary and get one answer.
class StopCondition {
 public:
  /// `max_hours` 0: no limit. Slurm's end time is read from SLURM_JOB_END_TIME (seconds since
  /// 1970) where it is set; the run ends `margin_s` before it.
  struct Limits {
    double max_hours = 0.0;
    double margin_s = 120.0;
  };
  explicit StopCondition(const Limits& limits);

  /// One tiny all-reduce. `step_s`: how long the next step may take.
  [[nodiscard]] StopReason agree(const Communicator& world, double step_s) const;

 private:
  [[nodiscard]] StopReason local(double step_s) const;

  Limits limits_;
  std::optional<std::int64_t> job_end_;
  Stopwatch clock_;
  SignalWatch signals_;
};

}  // namespace shoal::train
