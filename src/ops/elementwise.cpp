#include "shoal/ops/elementwise.hpp"

#include "ops/contract.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::ops {

void cast(const Exec& exec, const TensorView& to, const ConstTensorView& from) {
  expect_floating(to, "to");
  expect_floating(from, "from");
  expect_shape(from, to.shape(), "from");
  if (exec.is_dry() || to.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::cast(exec, to, from);
  }
  cpu::cast(exec, to, from);
}

void add(const Exec& exec, const TensorView& y, const ConstTensorView& a,
         const ConstTensorView& b) {
  expect_floating(y, "y");
  expect_tensor(a, y.shape(), y.dtype(), "a");
  expect_tensor(b, y.shape(), y.dtype(), "b");
  if (exec.is_dry() || y.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::add(exec, y, a, b);
  }
  cpu::add(exec, y, a, b);
}

void axpy(const Exec& exec, const TensorView& y, const ConstTensorView& x, float a) {
  expect_dtype(y, DType::f32, "y");
  expect_tensor(x, y.shape(), DType::f32, "x");
  if (exec.is_dry() || y.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::axpy(exec, y, x, a);
  }
  cpu::axpy(exec, y, x, a);
}

void fill(const Exec& exec, const TensorView& y, float value) {
  if (y.dtype() != DType::i32) expect_dtype(y, DType::f32, "y");
  if (exec.is_dry() || y.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::fill(exec, y, value);
  }
  cpu::fill(exec, y, value);
}

void sum(const Exec& exec, const TensorView& out, const ConstTensorView& x) {
  expect_tensor(out, {1}, DType::f32, "out");
  expect_dtype(x, DType::f32, "x");
  const ScratchScope scope{exec};
  const TensorView part_P = scratch_parts(exec, x.elements(), 1);
  if (exec.is_dry()) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::sum(exec, out, x, part_P);
  }
  cpu::sum(exec, out, x, part_P);
}

void fill_normal(const Exec& exec, const FillNormal& a) {
  expect_floating(a.y, "y");
  if (exec.is_dry() || a.y.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::fill_normal(exec, a);
  }
  cpu::fill_normal(exec, a);
}

void dropout(const Exec& exec, const Dropout& a) {
  expect_floating(a.y, "y");
  expect_tensor(a.x, a.y.shape(), a.y.dtype(), "x");
  expect_optional(a.add, a.y.shape(), a.y.dtype(), "add");
  expect_tensor(a.step_seed, {1}, DType::i64, "step_seed");
  expect(a.p >= 0.0F && a.p < 1.0F, "dropout: p must be in [0, 1)");
  if (exec.is_dry() || a.y.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::dropout(exec, a);
  }
  cpu::dropout(exec, a);
}

}  // namespace shoal::ops
