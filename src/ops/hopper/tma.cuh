#pragma once
// Copies of boxes of a tensor from global into shared memory by the bulk tensor copy engine (TMA,
// PTX ISA 9.7.9.27). A tensor map tells the engine the tensor's shape: what a box covers beyond it
// arrives as zeros. Rows of a box are 128 bytes; the engine exchanges their 16-byte units (unit u
// of row r goes to place u ^ r % 8) as wgmma expects it, free of bank conflicts.
#include <cuda.h>

#include "ops/hopper/mbarrier.cuh"

namespace shoal::ops::cuda::hopper {

/// Elements of two bytes in a row of a box: 128 bytes, the span of the swizzle.
inline constexpr int kBoxRow = 64;

/// `matrices` matrices [rows, columns] of bf16, f16 or f32, back to back, read in boxes of box_rows
/// rows of 128 bytes. The address and a row are multiples of 16 bytes.
struct TensorMapShape {
  const void* data;
  DType dtype;
  std::int64_t matrices, rows, columns;
  int box_rows;
};
[[nodiscard]] CUtensorMap make_tensor_map(const TensorMapShape& shape);

/// Element (row, column) of a matrix where a box begins.
struct BoxOrigin {
  int matrix, row, column;
};

/// Starts the copy of a box; its bytes count towards the barrier's phase. One thread calls.
__device__ inline void copy_box(unsigned shared, const CUtensorMap& map, const BoxOrigin& at,
                                const Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(at.column), "r"(at.row), "r"(at.matrix),
      "r"(barrier.address())
      : "memory");
}

/// Starts the copy of `bytes` neighbouring bytes; addresses and count are multiples of 16. The
/// bytes count towards the barrier's phase. One thread calls.
__device__ inline void copy_bytes(unsigned shared, const void* global, unsigned bytes,
                                  const Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared),
      "l"(global), "r"(bytes), "r"(barrier.address())
      : "memory");
}

__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<std::uint64_t>(&map)) : "memory");
}

/// Orders ordinary writes to shared memory before later reads by the copy engine and wgmma.
__device__ inline void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace shoal::ops::cuda::hopper
