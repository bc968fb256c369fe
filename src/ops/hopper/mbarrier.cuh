#pragma once
// Barriers in shared memory (mbarrier, PTX ISA 9.7.13) and the ring of stages that they guard: the
// producer fills a stage once it is empty, the consumers read it once it is full.
#include "ops/mma.cuh"

namespace shoal::ops::cuda::hopper {

/// Completes a phase when `arrivals` threads have arrived and all announced bytes have landed.
/// Waiting for parity p returns once the phase of that parity is over; parity 1 of a fresh barrier
/// counts as over.
struct Barrier {
  std::uint64_t word;

  __device__ void init(unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals));
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory");
  }
  /// Arrives and announces bytes that asynchronous copies will bring.
  __device__ void arrive_expecting(unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()),
                 "r"(bytes)
                 : "memory");
  }
  __device__ void wait(unsigned parity) {
    asm volatile(
        "{\n"
        ".reg .pred over;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
        "@over bra done;\n"
        "bra again;\n"
        "done:\n"
        "}\n" ::"r"(address()),
        "r"(parity)
        : "memory");
  }
  [[nodiscard]] __device__ unsigned address() const { return shared_address(&word); }
};

/// Makes initialised barriers visible to the asynchronous copies of this block.
__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Place in a ring of kStages: the stage, and the parity of the phase that it is in.
template <int kStages>
struct RingPosition {
  int stage = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1U;
    }
  }
};

}  // namespace shoal::ops::cuda::hopper
