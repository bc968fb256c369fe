#pragma once
// Arithmetic of the optimizer that both back ends share. Every multiply-add is written out, so
// that no compiler chooses where to fuse: CPU and GPU agree bit for bit. The templates and
// constexpr functions compile for host and device alike.
#include <cmath>
#include <limits>

#include "shoal/base/math.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/ops/optimizer.hpp"

namespace shoal::ops {

/// Partial sums of square_sum: each is the sum over one contiguous part, added in order.
inline constexpr std::int64_t kSquareParts = 1024;
inline TensorView square_parts(const Exec& exec) {
  return scratch(exec, {kSquareParts}, DType::f64);
}
/// Elements of a part: a multiple of 4, chosen by their number alone; small tensors use few parts.
constexpr std::int64_t square_part_width(std::int64_t count) {
  const std::int64_t width = round_up(ceil_div(count, kSquareParts), 4);
  return width < 4096 ? 4096 : width;
}

/// Piece `index` of a segment cut into kSegmentElements.
constexpr UpdateSegment segment_piece(UpdateSegment segment, std::int64_t index) {
  const std::int64_t at = index * kSegmentElements, left = segment.count - at;
  segment.value += at;
  segment.state += at;
  segment.first += at;
  segment.count = left < kSegmentElements ? left : kSegmentElements;
  return segment;
}
/// What an update goes through: a table of segments, or one segment over all values.
struct UpdateWork {
  const UpdateSegment* table;  ///< null: pieces of `whole`
  std::int64_t pieces;
  UpdateSegment whole;
};
inline UpdateWork update_work(const OptimizerUpdate& a) {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(UpdateSegment));
  if (!a.segments.absent()) {
    return {.table = reinterpret_cast<const UpdateSegment*>(a.segments.data<std::uint8_t>()),
            .pieces = a.segments.elements() / kBytes,
            .whole = {}};
  }
  return {.table = nullptr,
          .pieces = ceil_div(a.value.elements(), kSegmentElements),
          .whole = {.count = a.value.elements(), .first = a.first}};
}
constexpr UpdateSegment piece_of(const UpdateWork& work, std::int64_t index) {
  return work.table == nullptr ? segment_piece(work.whole, index) : work.table[index];
}

/// The parts of a square_sum: those of a table, or equal widths of all elements.
struct SumWork {
  const SumRun* runs;  ///< null: no table
  const std::int32_t* begin;
  std::int64_t parts;
  std::int64_t count, width;
};
inline SumWork sum_work(const ConstTensorView& x, const SumTableViews& table) {
  const std::int64_t count = x.elements(), width = square_part_width(count);
  if (table.begin.absent()) return {nullptr, nullptr, ceil_div(count, width), count, width};
  return {reinterpret_cast<const SumRun*>(table.runs.data<std::uint8_t>()),
          table.begin.data<std::int32_t>(), table.begin.elements() - 1, count, width};
}
constexpr std::int64_t first_run(const SumWork& work, std::int64_t part) {
  return work.runs == nullptr ? part : work.begin[part];
}
constexpr SumRun run_of(const SumWork& work, std::int64_t index) {
  if (work.runs != nullptr) return work.runs[index];
  const std::int64_t at = index * work.width, left = work.count - at;
  return {at, left < work.width ? left : work.width};
}

/// What one update needs, in fp32; the device fills the second group from its StepState.
struct UpdateScalars {
  float beta1, beta1_rest, beta2, beta2_rest;  ///< rest = 1 - beta, rounded once
  float eps, nu, nu_rest, weight_decay;
  float factor = 0.0F, lr = 0.0F, mu = 0.0F;
  float correction1 = 0.0F, correction2 = 0.0F, correction_u = 0.0F;
};

inline UpdateScalars update_scalars(const OptimizerUpdate& a) {
  return {.beta1 = static_cast<float>(a.beta1),
          .beta1_rest = static_cast<float>(1.0 - a.beta1),
          .beta2 = static_cast<float>(a.beta2),
          .beta2_rest = static_cast<float>(1.0 - a.beta2),
          .eps = a.eps,
          .nu = a.nu,
          .nu_rest = 1.0F - a.nu,
          .weight_decay = a.weight_decay};
}

constexpr UpdateScalars with_state(UpdateScalars s, const StepState& state) {
  s.factor = state.grad_factor;
  s.lr = state.lr;
  s.mu = state.mu;
  s.correction1 = state.correction1;
  s.correction2 = state.correction2;
  s.correction_u = state.correction_u;
  return s;
}

/// The kind whose arithmetic runs: amf without its second filter *is* adamw.
constexpr OptimizerKind update_kind(OptimizerKind kind, float nu) {
  return kind == OptimizerKind::amf && nu == 0.0F ? OptimizerKind::adamw : kind;
}
constexpr bool uses_m(OptimizerKind kind) {
  return kind != OptimizerKind::amf_nesterov && kind != OptimizerKind::sgd;
}
constexpr bool uses_v(OptimizerKind kind) {
  return kind != OptimizerKind::sgd;
}
constexpr bool uses_u(OptimizerKind kind) {
  return kind != OptimizerKind::adamw;
}

template <class Real>
struct UpdateElement {
  Real p, m, v, u;
};

/// One parameter's update; the formulas stand at OptimizerUpdate.
template <OptimizerKind kKind>
constexpr UpdateElement<float> update_element(const UpdateScalars& s, UpdateElement<float> x,
                                              float grad) {
  const float g = grad * s.factor;
  if constexpr (uses_m(kKind)) x.m = fmaf(s.beta1, x.m, s.beta1_rest * g);
  if constexpr (uses_v(kKind)) x.v = fmaf(s.beta2, x.v, s.beta2_rest * g * g);
  float step = 0.0F;
  if constexpr (kKind == OptimizerKind::adamw) {
    step = x.m * s.correction1 / (sqrtf(x.v * s.correction2) + s.eps);
  } else if constexpr (kKind == OptimizerKind::amf) {
    const float d = x.m * s.correction1 / (sqrtf(x.v * s.correction2) + s.eps);
    x.u = fmaf(s.mu, x.u, (1.0F - s.mu) * d);
    step = fmaf(s.nu, x.u * s.correction_u, s.nu_rest * d);
  } else if constexpr (kKind == OptimizerKind::amf_classic) {
    x.u = fmaf(s.mu, x.u, s.lr * x.m / (sqrtf(x.v) + s.eps));
    x.p -= x.u;
    return x;
  } else if constexpr (kKind == OptimizerKind::amf_nesterov) {
    const float h = (1.0F - s.mu) * (g / (sqrtf(x.v * s.correction2) + s.eps));
    x.u = fmaf(s.mu, x.u, h);
    step = fmaf(s.mu, x.u, h);
  } else {
    step = x.u = fmaf(s.mu, x.u, g);
  }
  x.p = fmaf(-s.lr, fmaf(s.weight_decay, x.p, step), x.p);
  return x;
}

/// A bf16 master weight: the working weight's bits and the 16 low bits. Adding half a unit may
/// carry into the high half; low >= 0x8000 tells that it did. NaN keeps no payload.
struct SplitBits {
  std::uint16_t high, low;
};
constexpr SplitBits split_bits(std::uint32_t bits) {
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) bits = 0x7FC00000U;
  return {static_cast<std::uint16_t>((bits + 0x8000U) >> 16), static_cast<std::uint16_t>(bits)};
}
constexpr std::uint32_t join_bits(SplitBits s) {
  const std::uint32_t carry = s.low >> 15;
  return ((s.high - carry) << 16) | s.low;
}

/// Random bits of element `index` of a parameter: one Philox block serves four elements, 16 bits
/// for m and 16 for u each.
constexpr philox::Block rounding_block(std::int64_t seed, std::uint32_t stream,
                                       std::int64_t index) {
  return philox::block(static_cast<std::uint64_t>(seed), philox::Purpose::stochastic_rounding,
                       static_cast<std::uint64_t>(index) / 4, stream);
}
constexpr std::uint32_t rounding_bits(const philox::Block& b, std::int64_t index) {
  const std::int64_t word = index & 3;
  return word == 0 ? b.x0 : word == 1 ? b.x1 : word == 2 ? b.x2 : b.x3;
}
/// fp32 bits to bf16 bits, rounded up with the probability of the part cut off.
constexpr std::uint16_t round_stochastic(std::uint32_t bits, std::uint32_t random16) {
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16) | 0x40U;
  return static_cast<std::uint16_t>((bits + random16) >> 16);
}

/// What flag_overflow leaves, and when.
inline constexpr double kOverflowNorm = std::numeric_limits<double>::infinity();
constexpr bool overflowed(float value) {
  return !(value <= 0.0F);
}

/// Settings of step_decide without their views.
struct DecideScalars {
  float max_norm;
  double beta1, beta2;
  bool dynamic_loss_scale;
  int growth_interval;
};

inline DecideScalars decide_scalars(const StepDecide& a) {
  return {.max_norm = a.max_norm,
          .beta1 = a.beta1,
          .beta2 = a.beta2,
          .dynamic_loss_scale = a.dynamic_loss_scale,
          .growth_interval = a.growth_interval};
}

constexpr StepState skip_step(StepState s, const DecideScalars& a) {
  s.skip = 1;
  s.grad_factor = 0.0F;
  s.skips_in_a_row += 1;
  s.skipped_total += 1;
  s.scale_good_steps = 0;
  if (a.dynamic_loss_scale && s.loss_scale > 1.0F) {
    s.loss_scale = s.loss_scale * 0.5F > 1.0F ? s.loss_scale * 0.5F : 1.0F;
  }
  return s;
}

/// The decision of one step; a template so that the math functions resolve on either side.
template <class Real>
constexpr StepState decide(StepState s, const DecideScalars& a, Real square_sum) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  const Real norm = sqrt(square_sum) / s.loss_scale;
  s.grad_norm = static_cast<float>(norm);
  if (!(s.grad_norm <= kLargest)) return skip_step(s, a);
  s.skip = 0;
  s.skips_in_a_row = 0;
  const Real clip = a.max_norm > 0.0F ? a.max_norm / (norm + 1e-6) : 1.0;
  s.grad_factor = static_cast<float>((clip < 1.0 ? clip : 1.0) / s.loss_scale);
  // Written as fma, 1 - power * beta is the same number on host and device.
  s.correction1 = static_cast<float>(1.0 / fma(-s.beta1_power, a.beta1, Real{1}));
  s.correction2 = static_cast<float>(1.0 / fma(-s.beta2_power, a.beta2, Real{1}));
  s.correction_u = static_cast<float>(1.0 / fma(-s.mu_product, Real{s.mu}, Real{1}));
  s.beta1_power *= a.beta1;
  s.beta2_power *= a.beta2;
  s.mu_product *= s.mu;
  s.good_steps += 1;
  s.scale_good_steps += 1;
  if (a.dynamic_loss_scale && s.scale_good_steps >= a.growth_interval) {
    if (s.loss_scale <= kLargest / 2) s.loss_scale *= 2.0F;
    s.scale_good_steps = 0;
  }
  return s;
}

}  // namespace shoal::ops
