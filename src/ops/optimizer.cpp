#include "shoal/ops/optimizer.hpp"

#include <cmath>

#include "ops/optimizer_detail.hpp"

namespace shoal::ops {
namespace {

void expect_elements(const ConstTensorView& view, std::int64_t elements, DType dtype,
                     std::string_view what, Where at = Where::current()) {
  expect_shape(view.absent() ? view : view.reshape({view.elements()}), {elements}, what, at);
  expect_dtype(view, dtype, what, at);
}

void expect_state(const ConstTensorView& state, Where at = Where::current()) {
  expect_elements(state, sizeof(StepState), DType::u8, "state", at);
}

/// The value's companions: u16 `low` for bf16, f32 `master` for f16.
void expect_companions(const TensorView& value, const TensorView& low, const TensorView& master,
                       Where at = Where::current()) {
  const std::int64_t N = value.elements();
  expect_floating(value, "value", at);
  if (value.dtype() == DType::bf16) expect_elements(low, N, DType::u16, "low", at);
  if (value.dtype() == DType::f16) expect_elements(master, N, DType::f32, "master", at);
}

void expect_moments(const OptimizerUpdate& a, Where at = Where::current()) {
  const std::int64_t N = a.value.elements();
  const OptimizerKind kind = update_kind(a.kind, a.nu);
  const DType moments = uses_m(kind) ? a.m.dtype() : a.u.dtype();
  expect(moments == DType::f32 || moments == DType::bf16, "optimizer: m and u are f32 or bf16", at);
  if (uses_m(kind)) expect_elements(a.m, N, moments, "m", at);
  if (uses_v(kind)) expect_elements(a.v, N, DType::f32, "v", at);
  if (uses_u(kind)) expect_elements(a.u, N, moments, "u", at);
}

}  // namespace

void square_sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
                Accumulate accumulate) {
  expect_elements(out, 1, DType::f64, "out");
  expect_dtype(x, DType::f32, "x");
  if (exec.is_dry()) {
    const ScratchScope scope{exec};
    (void)square_parts(exec);
    return;
  }
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::square_sum(exec, out, x, accumulate);
  }
  cpu::square_sum(exec, out, x, accumulate);
}

void step_decide(const Exec& exec, const StepDecide& a) {
  expect_state(a.state);
  expect_elements(a.square_sum, 1, DType::f64, "square_sum");
  expect(a.growth_interval >= 1, "step_decide: growth_interval must be positive");
  if (exec.is_dry()) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::step_decide(exec, a);
  }
  cpu::step_decide(exec, a);
}

void optimizer_update(const Exec& exec, const OptimizerUpdate& a) {
  expect_companions(a.value, a.low, a.master);
  expect_elements(a.grad, a.value.elements(), DType::f32, "grad");
  expect_state(a.state);
  expect_moments(a);
  expect(a.first >= 0, "optimizer_update: first must not be negative");
  if (exec.is_dry() || a.value.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::optimizer_update(exec, a);
  }
  cpu::optimizer_update(exec, a);
}

void split_master(const Exec& exec, const MasterSplit& a) {
  expect_companions(a.value, a.low, a.master);
  expect_elements(a.master, a.value.elements(), DType::f32, "master");
  if (exec.is_dry() || a.value.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::split_master(exec, a);
  }
  cpu::split_master(exec, a);
}

void join_master(const Exec& exec, const MasterSplit& a) {
  expect_companions(a.value, a.low, a.master);
  expect_elements(a.master, a.value.elements(), DType::f32, "master");
  if (exec.is_dry() || a.value.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::join_master(exec, a);
  }
  cpu::join_master(exec, a);
}

OptimizerScalars optimizer_reference(const OptimizerUpdate& a, const StepState& state,
                                     OptimizerScalars x, double grad) {
  if (state.skip != 0) return x;
  const double g = grad * state.grad_factor, lr = state.lr, mu = state.mu, nu = a.nu;
  const double root = [&] {
    x.v = uses_v(a.kind) ? a.beta2 * x.v + (1.0 - a.beta2) * g * g : x.v;
    const bool corrected = a.kind != OptimizerKind::amf_classic;
    return std::sqrt(corrected ? x.v / (1.0 - state.beta2_power) : x.v) + double{a.eps};
  }();
  if (uses_m(a.kind)) x.m = a.beta1 * x.m + (1.0 - a.beta1) * g;
  const double d = x.m / (1.0 - state.beta1_power) / root;
  double step = 0.0;
  switch (a.kind) {
    case OptimizerKind::adamw:
      step = d;
      break;
    case OptimizerKind::amf:
      if (nu != 0.0) x.u = mu * x.u + (1.0 - mu) * d;
      step = nu == 0.0 ? d : (1.0 - nu) * d + nu * x.u / (1.0 - state.mu_product);
      break;
    case OptimizerKind::amf_classic:
      x.u = mu * x.u + lr * x.m / root;
      x.p -= x.u;
      return x;
    case OptimizerKind::amf_nesterov:
      x.u = mu * x.u + (1.0 - mu) * g / root;
      step = mu * x.u + (1.0 - mu) * g / root;
      break;
    case OptimizerKind::sgd:
      step = x.u = mu * x.u + g;
      break;
  }
  x.p -= lr * (step + a.weight_decay * x.p);
  return x;
}

}  // namespace shoal::ops
