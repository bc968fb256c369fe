#include "shoal/ops/gemm.hpp"

#include "ops/product_cpu.hpp"

namespace shoal::ops {
namespace {

void check_operands(const Gemm& g) {
  expect(g.a.shape().rank() == 2 && g.b.shape().rank() == 2, "gemm: a and b are matrices");
  expect_floating(g.a, "gemm a");
  expect_same_dtype(g.a, g.b, "gemm b");
  if (g.c.dtype() != DType::f32) expect_same_dtype(g.a, g.c, "gemm c");
}

/// A dry Exec counts the CPU's panels; the GPU needs none.
bool is_done(const Exec& exec, const Gemm& g) {
  if (exec.is_dry() && !exec.on_gpu()) {
    const ScratchScope scope{exec};
    (void)cpu::product_scratch(exec);
  }
  return exec.is_dry() || g.c.elements() == 0;
}

}  // namespace

void gemm_nt(const Exec& exec, const Gemm& g) {
  check_operands(g);
  expect_shape(g.b, {g.b.dim(0), g.a.dim(1)}, "gemm_nt b");
  expect_shape(g.c, {g.a.dim(0), g.b.dim(0)}, "gemm_nt c");
  if (is_done(exec, g)) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::gemm_nt(exec, g);
  }
  cpu::gemm_nt(exec, g);
}

void gemm_nn(const Exec& exec, const Gemm& g) {
  check_operands(g);
  expect_shape(g.b, {g.a.dim(1), g.b.dim(1)}, "gemm_nn b");
  expect_shape(g.c, {g.a.dim(0), g.b.dim(1)}, "gemm_nn c");
  if (is_done(exec, g)) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::gemm_nn(exec, g);
  }
  cpu::gemm_nn(exec, g);
}

void gemm_tn(const Exec& exec, const Gemm& g) {
  check_operands(g);
  expect_shape(g.b, {g.a.dim(0), g.b.dim(1)}, "gemm_tn b");
  expect_shape(g.c, {g.a.dim(1), g.b.dim(1)}, "gemm_tn c");
  if (is_done(exec, g)) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::gemm_tn(exec, g);
  }
  cpu::gemm_tn(exec, g);
}

}  // namespace shoal::ops
