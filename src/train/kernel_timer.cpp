#include "train/kernel_timer.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "shoal/base/clock.hpp"

namespace shoal::train {
namespace {

constexpr double kRoundSeconds = 0.02;
constexpr int kMaxCalls = 1000;
constexpr int kFewestRounds = 3, kMostRounds = 7;
constexpr double kPatienceSeconds = 1.0;  // after which the fewest rounds do

double seconds_of_calls(const Exec& exec, int calls, const std::function<void()>& work) {
  exec.synchronize();
  const Stopwatch clock;
  for (int i = 0; i < calls; ++i) work();
  exec.synchronize();
  return clock.seconds() / calls;
}

}  // namespace

double median_time_of(const Exec& exec, const std::function<void()>& work) {
  if (exec.is_dry()) {
    work();
    return 0.0;
  }
  (void)seconds_of_calls(exec, 1, work);  // first calls choose algorithms and touch memory
  const double once = seconds_of_calls(exec, 2, work);
  const int calls =
      std::clamp(static_cast<int>(std::ceil(kRoundSeconds / std::max(once, 1e-9))), 1, kMaxCalls);
  std::vector<double> rounds;
  const Stopwatch clock;
  while (std::ssize(rounds) < kFewestRounds ||
         (std::ssize(rounds) < kMostRounds && clock.seconds() < kPatienceSeconds)) {
    rounds.push_back(seconds_of_calls(exec, calls, work));
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

}  // namespace shoal::train
