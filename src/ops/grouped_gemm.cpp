#include "ops/product_cpu.hpp"
#include "shoal/ops/gemm.hpp"

namespace shoal::ops {
namespace {

void check_operands(const GroupedGemm& g) {
  expect(g.a.shape().rank() == 2, "grouped_gemm: a holds rows");
  expect_floating(g.a, "grouped_gemm a");
  expect_same_dtype(g.a, g.b, "grouped_gemm b");
  if (g.c.dtype() != DType::f32) expect_same_dtype(g.a, g.c, "grouped_gemm c");
  expect_dtype(g.offsets_E1, DType::i32, "grouped_gemm offsets");
}

/// A dry Exec counts the CPU's panels; the GPU needs none.
bool is_done(const Exec& exec, const GroupedGemm& g) {
  if (exec.is_dry() && !exec.on_gpu()) {
    const ScratchScope scope{exec};
    (void)cpu::product_scratch(exec);
  }
  return exec.is_dry() || g.c.elements() == 0;
}

}  // namespace

void grouped_gemm_nt(const Exec& exec, const GroupedGemm& g) {
  check_operands(g);
  expect(g.b.shape().rank() == 3, "grouped_gemm_nt: b is [E, N, K]");
  expect_shape(g.b, {g.b.dim(0), g.b.dim(1), g.a.dim(1)}, "grouped_gemm_nt b");
  expect_shape(g.c, {g.a.dim(0), g.b.dim(1)}, "grouped_gemm_nt c");
  expect_shape(g.offsets_E1, {g.b.dim(0) + 1}, "grouped_gemm_nt offsets");
  if (is_done(exec, g)) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::grouped_gemm_nt(exec, g);
  }
  cpu::grouped_gemm_nt(exec, g);
}

void grouped_gemm_nn(const Exec& exec, const GroupedGemm& g) {
  check_operands(g);
  expect(g.b.shape().rank() == 3, "grouped_gemm_nn: b is [E, N, K]");
  expect_shape(g.b, {g.b.dim(0), g.a.dim(1), g.b.dim(2)}, "grouped_gemm_nn b");
  expect_shape(g.c, {g.a.dim(0), g.b.dim(2)}, "grouped_gemm_nn c");
  expect_shape(g.offsets_E1, {g.b.dim(0) + 1}, "grouped_gemm_nn offsets");
  if (is_done(exec, g)) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::grouped_gemm_nn(exec, g);
  }
  cpu::grouped_gemm_nn(exec, g);
}

void grouped_gemm_tn(const Exec& exec, const GroupedGemm& g) {
  check_operands(g);
  expect(g.c.shape().rank() == 3, "grouped_gemm_tn: c is [E, N, K]");
  expect_dtype(g.c, DType::f32, "grouped_gemm_tn c");
  expect_shape(g.b, {g.a.dim(0), g.b.dim(1)}, "grouped_gemm_tn b");
  expect_shape(g.c, {g.c.dim(0), g.a.dim(1), g.b.dim(1)}, "grouped_gemm_tn c");
  expect_shape(g.offsets_E1, {g.c.dim(0) + 1}, "grouped_gemm_tn offsets");
  if (is_done(exec, g)) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::grouped_gemm_tn(exec, g);
  }
  cpu::grouped_gemm_tn(exec, g);
}

}  // namespace shoal::ops
