#pragma once
// Warpgroup matrix products (wgmma m64nNk16, PTX ISA 9.7.15): four warps multiply a 64 x 16 by a
// 16 x N operand, both in shared memory, into fp32 sums in their registers, asynchronously.
// Of the sums [64, N], thread t of the warpgroup holds for every block j of eight columns:
// sums[4j] and [4j+1]: row 16 (t / 32) + t % 32 / 4, columns 8j + 2 (t % 4) and the next;
// sums[4j+2] and [4j+3]: the same columns eight rows below.
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

#define SHOAL_EIGHT_SUMS(i)                                                                  \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), \
      "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define SHOAL_NAMES_128                                                          \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                       \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"             \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"             \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"             \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"             \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"             \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define SHOAL_SUMS_128                                                                        \
  SHOAL_EIGHT_SUMS(0), SHOAL_EIGHT_SUMS(8), SHOAL_EIGHT_SUMS(16), SHOAL_EIGHT_SUMS(24),       \
      SHOAL_EIGHT_SUMS(32), SHOAL_EIGHT_SUMS(40), SHOAL_EIGHT_SUMS(48), SHOAL_EIGHT_SUMS(56), \
      SHOAL_EIGHT_SUMS(64), SHOAL_EIGHT_SUMS(72), SHOAL_EIGHT_SUMS(80), SHOAL_EIGHT_SUMS(88), \
      SHOAL_EIGHT_SUMS(96), SHOAL_EIGHT_SUMS(104), SHOAL_EIGHT_SUMS(112), SHOAL_EIGHT_SUMS(120)
#define SHOAL_NAMES_64                                               \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define SHOAL_SUMS_64                                                                   \
  SHOAL_EIGHT_SUMS(0), SHOAL_EIGHT_SUMS(8), SHOAL_EIGHT_SUMS(16), SHOAL_EIGHT_SUMS(24), \
      SHOAL_EIGHT_SUMS(32), SHOAL_EIGHT_SUMS(40), SHOAL_EIGHT_SUMS(48), SHOAL_EIGHT_SUMS(56)
// sums += a b: an operand with its flag set is stored inner index first.
#define SHOAL_PRODUCT(columns, type, names, constraints, a_, b_, at_, bt_)                     \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names \
               "}, " a_ ", " b_ ", 1, 1, 1, " at_ ", " bt_ ";"                                 \
               : constraints                                                                   \
               : "l"(a), "l"(b), "n"(int{kAInnerFirst}), "n"(int{kBInnerFirst})                \
               : "memory")

/// sums[64, N] += a[64, 16] b[16, N], N being twice the number of sums of a thread.
/// kAInnerFirst, kBInnerFirst: the operand is stored [inner][outer], otherwise [outer][inner].
template <class Elem, bool kAInnerFirst, bool kBInnerFirst>
__device__ inline void multiply_add(float (&sums)[128], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    SHOAL_PRODUCT("256", "bf16", SHOAL_NAMES_128, SHOAL_SUMS_128, "%128", "%129", "%130", "%131");
  } else {
    SHOAL_PRODUCT("256", "f16", SHOAL_NAMES_128, SHOAL_SUMS_128, "%128", "%129", "%130", "%131");
  }
}
template <class Elem, bool kAInnerFirst, bool kBInnerFirst>
__device__ inline void multiply_add(float (&sums)[64], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    SHOAL_PRODUCT("128", "bf16", SHOAL_NAMES_64, SHOAL_SUMS_64, "%64", "%65", "%66", "%67");
  } else {
    SHOAL_PRODUCT("128", "f16", SHOAL_NAMES_64, SHOAL_SUMS_64, "%64", "%65", "%66", "%67");
  }
}

#undef SHOAL_PRODUCT
#undef SHOAL_EIGHT_SUMS
#undef SHOAL_NAMES_128
#undef SHOAL_SUMS_128
#undef SHOAL_NAMES_64
#undef SHOAL_SUMS_64

}  // namespace shoal::ops::cuda::hopper
