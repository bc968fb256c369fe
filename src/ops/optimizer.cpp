#include "shoal/ops/optimizer.hpp"

#include <algorithm>
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

/// The value's companions of S elements: u16 `low` for bf16, f32 `master` for f16.
void expect_companions(const MasterSplit& a, std::int64_t S, Where at = Where::current()) {
  expect_floating(a.value, "value", at);
  if (a.value.dtype() == DType::bf16) expect_elements(a.low, S, DType::u16, "low", at);
  if (a.value.dtype() == DType::f16) expect_elements(a.master, S, DType::f32, "master", at);
}

/// Elements of every state: those of the weights, or with segments what the kind's first state has.
std::int64_t state_elements(const OptimizerUpdate& a) {
  if (a.segments.absent()) return a.value.elements();
  return (uses_m(update_kind(a.kind, a.nu)) ? a.m : a.u).elements();
}

void expect_moments(const OptimizerUpdate& a, std::int64_t N, Where at = Where::current()) {
  const OptimizerKind kind = update_kind(a.kind, a.nu);
  const DType moments = uses_m(kind) ? a.m.dtype() : a.u.dtype();
  expect(moments == DType::f32 || moments == DType::bf16, "optimizer: m and u are f32 or bf16", at);
  if (uses_m(kind)) expect_elements(a.m, N, moments, "m", at);
  if (uses_v(kind)) expect_elements(a.v, N, DType::f32, "v", at);
  if (uses_u(kind)) expect_elements(a.u, N, moments, "u", at);
}

}  // namespace

SumTable make_sum_table(std::span<const SumRun> runs) {
  std::int64_t total = 0;
  for (const SumRun& run : runs) total += run.count;
  const std::int64_t width = square_part_width(total);
  SumTable table;
  std::int64_t left = 0;  // of the part being filled
  for (const SumRun& run : runs) {
    for (std::int64_t at = 0; at < run.count;) {
      if (left == 0) {
        table.begin.push_back(static_cast<std::int32_t>(table.runs.size()));
        left = width;
      }
      const std::int64_t count = std::min(left, run.count - at);
      table.runs.push_back({.first = run.first + at, .count = count});
      at += count;
      left -= count;
    }
  }
  table.begin.push_back(static_cast<std::int32_t>(table.runs.size()));
  return table;
}

std::vector<UpdateSegment> cut_segments(std::span<const UpdateSegment> segments) {
  std::vector<UpdateSegment> pieces;
  for (const UpdateSegment& segment : segments) {
    const std::int64_t n = ceil_div(segment.count, kSegmentElements);
    for (std::int64_t i = 0; i < n; ++i) pieces.push_back(segment_piece(segment, i));
  }
  return pieces;
}

void square_sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
                Accumulate accumulate, const SumTableViews& table) {
  expect_elements(out, 1, DType::f64, "out");
  expect_dtype(x, DType::f32, "x");
  if (!table.begin.absent()) {
    expect_dtype(table.begin, DType::i32, "begin");
    expect(table.begin.elements() >= 1 && table.begin.elements() <= kSquareParts + 1,
           "square_sum: too many parts");
  }
  if (exec.is_dry()) {
    const ScratchScope scope{exec};
    (void)square_parts(exec);
    return;
  }
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::square_sum(exec, out, x, accumulate, table);
  }
  cpu::square_sum(exec, out, x, accumulate, table);
}

void flag_overflow(const Exec& exec, const TensorView& out, const ConstTensorView& overflow) {
  expect_elements(out, 1, DType::f64, "out");
  expect_elements(overflow, 1, DType::f32, "overflow");
  if (exec.is_dry()) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::flag_overflow(exec, out, overflow);
  }
  cpu::flag_overflow(exec, out, overflow);
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
  const std::int64_t S = state_elements(a);
  expect_companions({.value = a.value, .low = a.low, .master = a.master}, S);
  expect_elements(a.grad, a.value.elements(), DType::f32, "grad");
  expect_state(a.state);
  expect_moments(a, S);
  expect(a.first >= 0, "optimizer_update: first must not be negative");
  if (exec.is_dry() || S == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::optimizer_update(exec, a);
  }
  cpu::optimizer_update(exec, a);
}

void split_master(const Exec& exec, const MasterSplit& a) {
  expect_companions(a, a.value.elements());
  expect_elements(a.master, a.value.elements(), DType::f32, "master");
  if (exec.is_dry() || a.value.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::split_master(exec, a);
  }
  cpu::split_master(exec, a);
}

void join_master(const Exec& exec, const MasterSplit& a) {
  expect_companions(a, a.value.elements());
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
