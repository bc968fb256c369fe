#include "shoal/ops/swiglu.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void swiglu_forward(const Exec& exec, const SwigluForward& a) {
  const std::int64_t R = a.h_RF.dim(0);
  const std::int64_t F = a.h_RF.dim(1);
  expect_floating(a.h_RF, "h");
  expect_shape(a.h_RF, {R, F}, "h");
  expect_tensor(a.gate_up_RF, {R, 2 * F}, a.h_RF.dtype(), "gate_up");
  expect_optional(a.rows_limit, {1}, DType::i32, "rows_limit");
  if (exec.is_dry() || R * F == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::swiglu_forward(exec, a);
  }
  cpu::swiglu_forward(exec, a);
}

void swiglu_backward(const Exec& exec, const SwigluBackward& a) {
  const std::int64_t R = a.dh_RF.dim(0);
  const std::int64_t F = a.dh_RF.dim(1);
  expect_floating(a.dh_RF, "dh");
  expect_shape(a.dh_RF, {R, F}, "dh");
  expect_tensor(a.gate_up_RF, {R, 2 * F}, a.dh_RF.dtype(), "gate_up");
  expect_tensor(a.dgate_up_RF, {R, 2 * F}, a.dh_RF.dtype(), "dgate_up");
  expect_optional(a.rows_limit, {1}, DType::i32, "rows_limit");
  if (exec.is_dry() || R * F == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::swiglu_backward(exec, a);
  }
  cpu::swiglu_backward(exec, a);
}

}  // namespace shoal::ops
