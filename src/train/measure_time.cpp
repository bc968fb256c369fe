#include "train/measure_time.hpp"

#include <algorithm>
#include <cmath>

#include "shoal/base/clock.hpp"

namespace shoal::train {
namespace {

constexpr int kRounds = 5;
constexpr double kRoundSeconds = 0.012;
constexpr int kMaxCalls = 200;

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

double time_of(const Exec& exec, const Communicator& world, const std::function<void()>& work) {
  (void)seconds_of_calls(exec, world, 1, work);  // first calls choose algorithms and touch memory
  const double once = seconds_of_calls(exec, world, 1, work);
  const int calls =
      std::clamp(static_cast<int>(kRoundSeconds / std::max(once, 1e-9)), 1, kMaxCalls);
  std::vector<double> rounds;
  for (int i = 0; i < kRounds; ++i) {
    rounds.push_back(seconds_of_calls(exec, world, calls, work));
  }
  std::nth_element(rounds.begin(), rounds.begin() + kRounds / 2, rounds.end());
  return rounds[kRounds / 2];
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
