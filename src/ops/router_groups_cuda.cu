#include "ops/cuda_common.cuh"
#include "shoal/ops/router_groups.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

struct Counts {
  std::int32_t* count_FE;
  const std::int32_t* fragment_AE;
  std::int64_t F, E, first, each;
};

/// Thread (fragment, expert).
__global__ void group_counts_kernel(Counts a) {
  const std::int64_t at = thread_index();
  if (at >= a.F * a.E) return;
  const std::int64_t begin = (a.first + at / a.E) / a.each * a.each;
  std::int32_t sum = 0;
  for (std::int64_t f = begin; f < begin + a.each; ++f) sum += a.fragment_AE[f * a.E + at % a.E];
  a.count_FE[at] = sum;
}

}  // namespace

void router_group_counts(const Exec& exec, const RouterGroupCounts& a) {
  const Counts counts{.count_FE = device_data<std::int32_t>(a.count_FE),
                      .fragment_AE = device_data<std::int32_t>(a.fragment_AE),
                      .F = a.count_FE.dim(0),
                      .E = a.count_FE.dim(1),
                      .first = a.first,
                      .each = a.fragments_each};
  group_counts_kernel<<<blocks_for(counts.F * counts.E, kThreads), kThreads, 0,
                        exec.cuda().stream>>>(counts);
  check_launch();
}

}  // namespace shoal::ops::cuda
