#include "ops/cuda_common.cuh"
#include "shoal/ops/router_ledger.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

struct LedgerKernel {
  float* count_E;
  float* sums;
  const std::int32_t* count_SE;
  const float* mean_SE;
  const float* entropy_sum;
  const float* z_sum;
  const std::int32_t* kept_E;
  std::int64_t S, E, kept_count, slots;
};

/// One block: a thread owns every kThreads-th expert.
__global__ void ledger_kernel(LedgerKernel a) {
  const float share = static_cast<float>(a.E * a.S) / static_cast<float>(a.slots);
  float aux = 0.0F;
  for (std::int64_t e = threadIdx.x; e < a.E; e += kThreads) {
    std::int64_t count = 0;
    float product = 0.0F;
    for (std::int64_t s = 0; s < a.S; ++s) {
      const std::int32_t n = a.count_SE[s * a.E + e];
      count += n;
      product += static_cast<float>(n) * a.mean_SE[s * a.E + e];
    }
    a.count_E[e] += static_cast<float>(count);
    aux += product * share;
  }
  aux = block_sum(aux);
  if (threadIdx.x != 0) return;
  std::int64_t kept = 0;
  for (std::int64_t e = 0; e < a.kept_count; ++e) kept += a.kept_E[e];
  a.sums[0] += *a.entropy_sum;
  a.sums[1] += *a.z_sum;
  a.sums[2] += aux;
  a.sums[3] += static_cast<float>(a.slots - kept);
}

}  // namespace

void router_ledger_add(const Exec& exec, const RouterLedgerAdd& a) {
  ledger_kernel<<<1, kThreads, 0, exec.cuda().stream>>>(
      {.count_E = device_data<float>(a.count_E),
       .sums = device_data<float>(a.sums),
       .count_SE = device_data<std::int32_t>(a.count_SE),
       .mean_SE = device_data<float>(a.mean_score_SE),
       .entropy_sum = device_data<float>(a.entropy_sum),
       .z_sum = device_data<float>(a.z_sum),
       .kept_E = device_data<std::int32_t>(a.kept_E),
       .S = a.count_SE.dim(0),
       .E = a.count_SE.dim(1),
       .kept_count = a.kept_E.elements(),
       .slots = a.tokens * a.slots_per_token});
  check_launch();
}

}  // namespace shoal::ops::cuda
