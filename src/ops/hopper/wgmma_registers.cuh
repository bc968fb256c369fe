#pragma once
// Warpgroup products whose operand a lies in registers: the rounded sums of one product become the
// operand of the next without leaving the thread. Of a[64, 16], thread t of the warpgroup holds
// rows r = 16 (t / 32) + t % 32 / 4 and r + 8, two neighbouring columns a register:
// a[0]: row r, columns c = 2 (t % 4) and c + 1; a[1]: row r + 8; a[2]: row r, columns c + 8 and
// c + 9; a[3]: both. Two blocks of sums (wgmma.cuh) hold just these elements.
#include "ops/hopper/wgmma.cuh"

namespace shoal::ops::cuda::hopper {

/// Sixteen columns of a for this thread.
using RowsOperand = unsigned[4];

/// x and y rounded to nearest even, x in the lower half.
template <class Elem>
__device__ inline unsigned pack_pair(float x, float y) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
    return reinterpret_cast<const unsigned&>(pair);
  } else {
    const __half2 pair = __floats2half2_rn(x, y);
    return reinterpret_cast<const unsigned&>(pair);
  }
}

/// All columns of sums, rounded, as operands of sixteen columns each.
template <class Elem, int kSums>
__device__ inline void round_sums(RowsOperand (&a)[kSums / 8], const float (&sums)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums / 2; ++i) {
    a[i / 4][i % 4] = pack_pair<Elem>(sums[2 * i], sums[2 * i + 1]);
  }
}

#define SHOAL_PRODUCT(columns, type, names, constraints, a0, a1, a2, a3, b_, d_, bt_)          \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names \
               "}, {" a0 "," a1 "," a2 "," a3 "}, " b_ ", " d_ ", 1, 1, " bt_ ";"              \
               : constraints                                                                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int{kAdd}),           \
                 "n"(int{kBInnerFirst})                                                        \
               : "memory")

/// sums[64, N] += a[64, 16] b[16, N], or = without kAdd; b as in wgmma.cuh. The registers of a must
/// not change before the products are waited for.
template <class Elem, bool kBInnerFirst, bool kAdd = true>
__device__ inline void multiply_add(float (&sums)[64], const RowsOperand& a, std::uint64_t b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    SHOAL_PRODUCT("128", "bf16", SHOAL_NAMES_64, SHOAL_SUMS_64, "%64", "%65", "%66", "%67", "%68",
                  "%69", "%70");
  } else {
    SHOAL_PRODUCT("128", "f16", SHOAL_NAMES_64, SHOAL_SUMS_64, "%64", "%65", "%66", "%67", "%68",
                  "%69", "%70");
  }
}
template <class Elem, bool kBInnerFirst, bool kAdd = true>
__device__ inline void multiply_add(float (&sums)[32], const RowsOperand& a, std::uint64_t b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    SHOAL_PRODUCT("64", "bf16", SHOAL_NAMES_32, SHOAL_SUMS_32, "%32", "%33", "%34", "%35", "%36",
                  "%37", "%38");
  } else {
    SHOAL_PRODUCT("64", "f16", SHOAL_NAMES_32, SHOAL_SUMS_32, "%32", "%33", "%34", "%35", "%36",
                  "%37", "%38");
  }
}

#undef SHOAL_PRODUCT

}  // namespace shoal::ops::cuda::hopper
