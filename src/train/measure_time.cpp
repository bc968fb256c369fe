#include "train/measure_time.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "shoal/base/clock.hpp"

namespace shoal::train {
namespace {

constexpr int kRounds = 9;
constexpr double kRoundSeconds = 0.006;
constexpr int kMaxCalls = 200;

/// Seconds since construction; with one thread a rank those that this thread computed, so that work
/// of others on the machine does not count.
class ComputeClock {
 public:
  [[nodiscard]] double seconds() const { return alone_ ? computed() - start_ : wall_.seconds(); }

 private:
  static double computed() {
    std::timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  bool alone_ = omp_get_max_threads() == 1;
  double start_ = computed();
  Stopwatch wall_;
};

/// Reads and writes more than a core's own caches hold, so that operands come from where a step
/// finds them.
class CacheSweep {
 public:
  explicit CacheSweep(const Exec& exec) : values_(exec.on_gpu() ? 0 : kFloats, 1.0F) {}
  void run() {
    for (float& value : values_) value += 1.0F;
  }

 private:
  static constexpr std::size_t kFloats = std::size_t{1} << 20;
  std::vector<float> values_;
};

double seconds_of_calls(const Exec& exec, const Communicator& world, int calls,
                        const std::function<void()>& work) {
  exec.synchronize();
  world.barrier();
  const Stopwatch clock;
  for (int i = 0; i < calls; ++i) work();
  exec.synchronize();
  return world.all_reduce_value(clock.seconds() / calls, comm::ReduceOp::max);
}

}  // namespace

double cold_time_of(const Exec& exec, const Communicator& world, const std::function<void()>& work,
                    int rounds) {
  if (exec.on_gpu()) return time_of(exec, world, work);
  CacheSweep sweep{exec};
  work();
  double best = 0.0;
  for (int round = 0; round < rounds; ++round) {
    world.barrier();
    sweep.run();
    const ComputeClock clock;
    work();
    const double seconds = world.all_reduce_value(clock.seconds(), comm::ReduceOp::max);
    best = round == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

double time_of(const Exec& exec, const Communicator& world, const std::function<void()>& work) {
  (void)seconds_of_calls(exec, world, 1, work);  // first calls choose algorithms and touch memory
  const double once = seconds_of_calls(exec, world, 1, work);
  const int calls =
      std::clamp(static_cast<int>(kRoundSeconds / std::max(once, 1e-9)), 1, kMaxCalls);
  double best = once;
  for (int i = 0; i < kRounds; ++i) {
    best = std::min(best, seconds_of_calls(exec, world, calls, work));
  }
  return best;
}

Fit fit_times(const std::vector<Sample>& samples) {
  double aa = 0.0, ab = 0.0, bb = 0.0, ay = 0.0, by = 0.0;
  for (const Sample& s : samples) {
    const double a = s.first / s.seconds, b = s.second / s.seconds;
    aa += a * a;
    ab += a * b;
    bb += b * b;
    ay += a;
    by += b;
  }
  const double determinant = aa * bb - ab * ab;
  const Fit one_by_one{aa > 0.0 ? ay / aa : 0.0, bb > 0.0 ? by / bb : 0.0};
  if (determinant <= 1e-12 * aa * bb) return {one_by_one.first_s, 0.0};
  const Fit both{(ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant};
  if (both.first_s < 0.0) return {0.0, one_by_one.second_s};
  if (both.second_s < 0.0) return {one_by_one.first_s, 0.0};
  return both;
}

}  // namespace shoal::train
