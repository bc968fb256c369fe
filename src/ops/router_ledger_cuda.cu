#include "ops/cuda_common.cuh"
#include "shoal/ops/router_ledger.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

struct LedgerKernel {
  float* count_E;
  float* sums;
  const std::int32_t* count_SE;
  const std::int32_t* group_SE;  ///< counts of the whole groups
  const float* mean_SE;
  const float* entropy_sum;
  const float* z_sum;
  const std::int32_t* kept_E;
  std::int64_t S, E, kept_count, slots;
  float share;
};

/// One block: a thread owns every kThreads-th expert.
__global__ void ledger_kernel(LedgerKernel a) {
  float aux = 0.0F;
  for (std::int64_t e = threadIdx.x; e < a.E; e += kThreads) {
    std::int64_t count = 0;
    float product = 0.0F;
#pragma unroll 8
    for (std::int64_t s = 0; s < a.S; ++s) {
      count += a.count_SE[s * a.E + e];
      product += static_cast<float>(a.group_SE[s * a.E + e]) * a.mean_SE[s * a.E + e];
    }
    a.count_E[e] += static_cast<float>(count);
    aux += product * a.share;
  }
  aux = block_sum(aux);
  // Integer additions: the order in which threads arrive does not show.
  __shared__ std::int32_t kept;
  if (threadIdx.x == 0) kept = 0;
  __syncthreads();
  std::int32_t own = 0;
  for (std::int64_t e = threadIdx.x; e < a.kept_count; e += kThreads) own += a.kept_E[e];
  own = __reduce_add_sync(kFullWarp, own);
  if (threadIdx.x % kWarpSize == 0) atomicAdd(&kept, own);
  __syncthreads();
  if (threadIdx.x != 0) return;
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
       .group_SE =
           device_data<std::int32_t>(a.group_count_SE.absent() ? a.count_SE : a.group_count_SE),
       .mean_SE = device_data<float>(a.mean_score_SE),
       .entropy_sum = device_data<float>(a.entropy_sum),
       .z_sum = device_data<float>(a.z_sum),
       .kept_E = device_data<std::int32_t>(a.kept_E),
       .S = a.count_SE.dim(0),
       .E = a.count_SE.dim(1),
       .kept_count = a.kept_E.elements(),
       .slots = a.tokens * a.slots_per_token,
       .share = ledger_share(a)});
  check_launch();
}

}  // namespace shoal::ops::cuda
