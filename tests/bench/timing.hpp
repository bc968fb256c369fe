#pragma once
// Times of work on a GPU, between two events of its stream.
#include <algorithm>
#include <functional>
#include <vector>

#include "shoal/device/check.hpp"
#include "shoal/device/exec.hpp"

namespace shoal::bench {

/// Milliseconds of one call of `body`: the median of eleven measurements after three; each is of
/// `calls` in a row, so that the host is ahead of short kernels.
[[nodiscard]] inline double milliseconds(const Exec& exec, const std::function<void()>& body,
                                         int calls = 1) {
  using shoal::cuda::check;
  cudaEvent_t begin{}, end{};
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 14; ++i) {
    check(cudaEventRecord(begin, exec.cuda().stream));
    for (int call = 0; call < calls; ++call) body();
    check(cudaEventRecord(end, exec.cuda().stream));
    check(cudaEventSynchronize(end));
    float ms = 0.0F;
    check(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 3) times.push_back(ms / static_cast<float>(calls));
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace shoal::bench
