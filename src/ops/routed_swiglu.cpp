#include "shoal/ops/routed_swiglu.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void routed_swiglu_backward(const Exec& exec, const RoutedSwigluBackward& a) {
  const std::int64_t R = a.dh_RF.dim(0);
  const std::int64_t F = a.dh_RF.dim(1);
  expect_floating(a.dh_RF, "dh");
  expect_shape(a.dh_RF, {R, F}, "dh");
  expect_tensor(a.gate_up_RF, {R, 2 * F}, a.dh_RF.dtype(), "gate_up");
  expect_tensor(a.dgate_up_RF, {R, 2 * F}, a.dh_RF.dtype(), "dgate_up");
  expect_tensor(a.h_RF, {R, F}, a.dh_RF.dtype(), "h");
  expect_tensor(a.weight_R, {R}, DType::f32, "weight");
  expect_tensor(a.dweight_R, {R}, DType::f32, "dweight");
  expect_optional(a.rows_limit, {1}, DType::i32, "rows_limit");
  if (exec.is_dry() || R * F == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::routed_swiglu_backward(exec, a);
  }
  cpu::routed_swiglu_backward(exec, a);
}

}  // namespace shoal::ops
