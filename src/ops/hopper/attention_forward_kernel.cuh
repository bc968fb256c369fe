#pragma once
// Causal attention forward for bf16 and f16 on Hopper's warpgroup products, after FlashAttention-3
// (Shah et al. 2024, arXiv:2407.08608). One persistent block on each multiprocessor: a producer
// warp and two or three consumer warpgroups of 64 queries each, which share keys and values. The
// sums of a query are taken by one warpgroup in a fixed order: deterministic.
#include "ops/hopper/attention_forward_consumer.cuh"
#include "ops/hopper/attention_forward_producer.cuh"

namespace shoal::ops::cuda::hopper {

template <class P>
__global__ void __launch_bounds__(P::kThreads, 1)
    attention_forward_wgmma_kernel(const __grid_constant__ ForwardArgs<typename P::Elem> args,
                                   const __grid_constant__ CUtensorMap q,
                                   const __grid_constant__ CUtensorMap k,
                                   const __grid_constant__ CUtensorMap v) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  auto& shared = ForwardShared<P>::at(raw);
  if (threadIdx.x == 0) {
    prefetch_map(q);
    prefetch_map(k);
    prefetch_map(v);
    shared.init_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    shrink_registers<P::kProducerRegisters>();
    if (threadIdx.x < kWarpSize) Producer<P>{shared, args, {q, k, v}}.run();
  } else {
    grow_registers<P::kConsumerRegisters>();
    Consumer<P>{shared, args.call}.run();
  }
#else
  __trap();  // the launcher chooses this kernel on compute capability 9.0 only
#endif
}

}  // namespace shoal::ops::cuda::hopper
