#pragma once
// Warpgroup matrix products (wgmma m64nNk16, PTX ISA 9.7.15): four warps multiply a 64 x 16 by a
// 16 x N operand, both in shared memory, into fp32 sums in their registers, asynchronously.
// Of the sums [64, N], thread t of the warpgroup holds for every block j of eight columns:
// sums[4j] and [4j+1]: row 16 (t / 32) + t % 32 / 4, columns 8j + 2 (t % 4) and the next;
// sums[4j+2] and [4j+3]: the same columns eight rows below.
#include "ops/hopper/wgmma_sums.cuh"
#include "ops/mma.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kWarpgroup = 128;
inline constexpr int kProductInner = 16;  // inner indices of one product

/// Before the first product of a batch: earlier register and shared-memory writes become visible.
__device__ inline void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kPending committed batches are under way.
template <int kPending>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving uses of registers across this place: it does not know that
/// products run on after the instructions that start them.
template <class Register, int kCount>
__device__ inline void fence_registers(Register (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if constexpr (std::is_same_v<Register, float>) {
      asm volatile("" : "+f"(registers[i])::"memory");
    } else {
      asm volatile("" : "+r"(registers[i])::"memory");
    }
  }
}

/// Registers a thread of this warpgroup may use from here on; all its warps call.
template <int kRegisters>
__device__ inline void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Where an operand lies in shared memory, in rows of 128 swizzled bytes. `stride`: bytes between
/// groups of eight rows; `leading`: bytes between blocks of 64 columns where columns are outer.
__device__ inline std::uint64_t operand_descriptor(unsigned address, unsigned leading,
                                                   unsigned stride) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  return (address & 0x3FFFFU) >> 4 | std::uint64_t{leading >> 4} << 16 |
         std::uint64_t{stride >> 4} << 32 | kSwizzle128;
}

// sums (+)= a b: an operand with its flag set is stored inner index first.
#define SHOAL_PRODUCT(columns, type, names, constraints, a_, b_, d_, at_, bt_)                  \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names  \
               "}, " a_ ", " b_ ", " d_ ", 1, 1, " at_ ", " bt_ ";"                             \
               : constraints                                                                    \
               : "l"(a), "l"(b), "n"(int{kAdd}), "n"(int{kAInnerFirst}), "n"(int{kBInnerFirst}) \
               : "memory")

/// sums[64, N] += a[64, 16] b[16, N], or = without kAdd, N being twice the number of sums of a
/// thread. kAInnerFirst, kBInnerFirst: the operand is stored [inner][outer], otherwise
/// [outer][inner].
template <class Elem, bool kAInnerFirst, bool kBInnerFirst, bool kAdd = true>
__device__ inline void multiply_add(float (&sums)[128], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    SHOAL_PRODUCT("256", "bf16", SHOAL_NAMES_128, SHOAL_SUMS_128, "%128", "%129", "%130", "%131",
                  "%132");
  } else {
    SHOAL_PRODUCT("256", "f16", SHOAL_NAMES_128, SHOAL_SUMS_128, "%128", "%129", "%130", "%131",
                  "%132");
  }
}
template <class Elem, bool kAInnerFirst, bool kBInnerFirst, bool kAdd = true>
__device__ inline void multiply_add(float (&sums)[64], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    SHOAL_PRODUCT("128", "bf16", SHOAL_NAMES_64, SHOAL_SUMS_64, "%64", "%65", "%66", "%67", "%68");
  } else {
    SHOAL_PRODUCT("128", "f16", SHOAL_NAMES_64, SHOAL_SUMS_64, "%64", "%65", "%66", "%67", "%68");
  }
}
template <class Elem, bool kAInnerFirst, bool kBInnerFirst, bool kAdd = true>
__device__ inline void multiply_add(float (&sums)[32], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    SHOAL_PRODUCT("64", "bf16", SHOAL_NAMES_32, SHOAL_SUMS_32, "%32", "%33", "%34", "%35", "%36");
  } else {
    SHOAL_PRODUCT("64", "f16", SHOAL_NAMES_32, SHOAL_SUMS_32, "%32", "%33", "%34", "%35", "%36");
  }
}

#undef SHOAL_PRODUCT

}  // namespace shoal::ops::cuda::hopper
