#include "shoal/ops/rmsnorm.hpp"

#include "ops/contract.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::ops {

void rmsnorm_forward(const Exec& exec, const RmsNormForward& a) {
  const Shape shape{a.x_TD.dim(0), a.x_TD.dim(1)};
  const DType elem = a.x_TD.dtype();
  expect_floating(a.x_TD, "x");
  expect_shape(a.x_TD, shape, "x");
  expect_tensor(a.y_TD, shape, elem, "y");
  expect_tensor(a.rstd_T, {shape[0]}, DType::f32, "rstd");
  expect_tensor(a.w_D, {shape[1]}, elem, "w");
  expect_optional(a.add_TD, shape, elem, "add");
  expect_optional(a.sum_TD, shape, elem, "sum");
  expect(a.add_TD.absent() == a.sum_TD.absent(), "rmsnorm: add and sum come together");
  if (exec.is_dry() || shape.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::rmsnorm_forward(exec, a);
  }
  cpu::rmsnorm_forward(exec, a);
}

void rmsnorm_backward(const Exec& exec, const RmsNormBackward& a) {
  const Shape shape{a.x_TD.dim(0), a.x_TD.dim(1)};
  const DType elem = a.x_TD.dtype();
  expect_floating(a.x_TD, "x");
  expect_shape(a.x_TD, shape, "x");
  expect_tensor(a.dx_TD, shape, elem, "dx");
  expect_tensor(a.part_PD, {part_count(shape[0]), shape[1]}, DType::f32, "part");
  expect_tensor(a.dy_TD, shape, elem, "dy");
  expect_tensor(a.w_D, {shape[1]}, elem, "w");
  expect_tensor(a.rstd_T, {shape[0]}, DType::f32, "rstd");
  expect_optional(a.add_TD, shape, elem, "add");
  if (exec.is_dry() || shape.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::rmsnorm_backward(exec, a);
  }
  cpu::rmsnorm_backward(exec, a);
}

}  // namespace shoal::ops
