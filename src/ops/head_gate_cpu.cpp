#include <algorithm>
#include <cmath>

#include "ops/cpu_math.hpp"
#include "ops/head_gate_detail.hpp"

namespace shoal::ops::cpu {
namespace {

/// Position of a token in its document, and the blocks counted from the document's start.
struct Blocks {
  const std::int32_t* doc_start_T;
  std::int64_t T;
  std::int64_t block;
  [[nodiscard]] std::int64_t position(std::int64_t t) const { return t - doc_start_T[t]; }
  [[nodiscard]] bool starts(std::int64_t t) const { return position(t) % block == 0; }
  [[nodiscard]] std::int64_t end(std::int64_t start) const {  ///< one past the block's last token
    std::int64_t t = start + 1;
    while (t < T && doc_start_T[t] == doc_start_T[start] && !starts(t)) ++t;
    return t;
  }
};

float length_feature(std::int64_t position, std::int64_t max_position) {
  return std::log2(1.0F + static_cast<float>(position)) /
         std::log2(1.0F + static_cast<float>(max_position));
}

std::int64_t active_groups(float gate, std::int64_t groups) {
  const auto G = static_cast<float>(groups);
  return static_cast<std::int64_t>(std::clamp(std::floor(std::fma(G, gate, 0.5F)), 1.0F, G));
}
/// Local groups among the first `active` of the whole model.
std::int32_t local_groups(std::int64_t active, const GroupShare& share) {
  return static_cast<std::int32_t>((active - share.offset + share.stride - 1) / share.stride);
}

template <class Elem>
void scores(const HeadGateForward& a) {
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1);
  const float* w_D = a.w_D.data<float>();
#pragma omp parallel for schedule(static) if (T * D > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    const Elem* x_D = a.x_TD.data<Elem>() + t * D;
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t d = 0; d < D; ++d) sum += w_D[d] * to_float(x_D[d]);
    a.score_T.data<float>()[t] = sum;
  }
}

/// dgate_T: slope of the ramp times <dout, out> over the groups that the ramp moves. Where
/// |G g - j - 1/2| < 1 it rises with slope G/2; of the active groups that is the last one.
template <class Elem>
void gate_gradient(const HeadGateBackward& a, const Blocks& blocks, float* dgate_T) {
  const std::int64_t C = a.out_TC.dim(1), width = C / (a.groups / a.share.stride);
  const auto G = static_cast<float>(a.groups);
#pragma omp parallel for schedule(static) if (blocks.T * width > kParallelWork)
  for (std::int64_t t = 0; t < blocks.T; ++t) {
    float sum = 0.0F;
    const std::int32_t active =
        blocks.position(t) < blocks.block ? 0 : a.active_groups_T.data<std::int32_t>()[t];
    for (std::int32_t j = 0; j < active; ++j) {
      const auto group = static_cast<float>(j * a.share.stride + a.share.offset);
      const float offset = G * a.gate_T.data<float>()[t] - group - 0.5F;
      if (!(std::abs(offset) < 1.0F)) continue;
      const Elem* dout = a.dout_TC.data<Elem>() + t * C + j * width;
      const Elem* out = a.out_TC.data<Elem>() + t * C + j * width;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = 0; i < width; ++i) sum += to_float(dout[i]) * to_float(out[i]);
    }
    dgate_T[t] = 0.5F * G * sum;
  }
}

/// Gradient of budget_scale * (mean of g over the sequence's blocks - budget)^2 for each gate.
float budget_gradient(const HeadGateBackward& a, const Blocks& blocks, std::int64_t begin) {
  float sum = 0.0F, count = 0.0F;
  for (std::int64_t t = begin; t < begin + a.sequence; ++t) {
    if (!blocks.starts(t)) continue;
    sum += a.gate_T.data<float>()[t];
    count += 1.0F;
  }
  return 2.0F * a.budget_scale.data<float>()[0] * (sum / count - a.budget) / count;
}

/// Gradients of the gates' logits (at the first token of each block), zero for first blocks.
void logit_gradient(const HeadGateBackward& a, const Blocks& blocks, const HeadGateScratch& s) {
  for (std::int64_t t = 0; t < blocks.T; ++t) {
    if (!blocks.starts(t)) continue;
    float sum = a.budget_scale.absent() ? 0.0F : s.budget_S.data<float>()[t / a.sequence];
    for (std::int64_t i = t; i < blocks.end(t); ++i) sum += s.dgate_T.data<float>()[i];
    const float gate = a.gate_T.data<float>()[t];
    s.dlogit_T.data<float>()[t] = blocks.position(t) == 0 ? 0.0F : sum * gate * (1.0F - gate);
  }
}

/// Each mean takes part in the gate of a later block: suffix sums within the document.
void score_gradient(const Blocks& blocks, const HeadGateScratch& s) {
  float later = 0.0F;
  for (std::int64_t t = blocks.T - 1; t >= 0; --t) {
    s.dscore_T.data<float>()[t] = later;
    const std::int64_t position = blocks.position(t);
    if (position == 0) {
      later = 0.0F;
    } else if (blocks.starts(t)) {
      later += s.dlogit_T.data<float>()[t] / static_cast<float>(position);
    }
  }
}

template <class Elem>
void input_gradient(const HeadGateBackward& a, const HeadGateScratch& s) {
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1), rows = part_size(T);
  const float* w_D = a.w_D.data<float>();
#pragma omp parallel for schedule(static) if (T * D > kParallelWork)
  for (std::int64_t part = 0; part < s.dw_PD.dim(0); ++part) {
    float* dw_D = s.dw_PD.data<float>() + part * D;
    std::fill(dw_D, dw_D + D, 0.0F);
    for (std::int64_t t = part * rows; t < std::min(T, (part + 1) * rows); ++t) {
      const float dscore = s.dscore_T.data<float>()[t];
      const Elem* x_D = a.x_TD.data<Elem>() + t * D;
      Elem* dx_D = a.dx_TD.data<Elem>() + t * D;
#pragma omp simd
      for (std::int64_t d = 0; d < D; ++d) {
        dw_D[d] = std::fma(dscore, to_float(x_D[d]), dw_D[d]);
        dx_D[d] = from_float<Elem>(std::fma(dscore, w_D[d], to_float(dx_D[d])));
      }
    }
  }
}

void scalar_gradient(const HeadGateBackward& a, const Blocks& blocks, const HeadGateScratch& s) {
  const bool add = a.accumulate == Accumulate::add;
  float dc = 0.0F, db = 0.0F;
  for (std::int64_t t = 0; t < blocks.T; ++t) {
    if (!blocks.starts(t)) continue;
    const float dlogit = s.dlogit_T.data<float>()[t];
    dc += dlogit * length_feature(blocks.position(t), a.max_position);
    db += dlogit;
  }
  float* out = a.dscalars.data<float>();
  out[0] = add ? out[0] + dc : dc;
  out[1] = add ? out[1] + db : db;
}

}  // namespace

void head_gate_forward(const Exec&, const HeadGateForward& a) {
  with_elem(a.x_TD.dtype(), [&](auto elem) { scores<decltype(elem)>(a); });
  const Blocks blocks{a.doc_start_T.data<std::int32_t>(), a.x_TD.dim(0), a.block};
  const float* scalars = a.scalars.data<float>();
  float before = 0.0F;  // sum of the scores of the document's earlier blocks
  for (std::int64_t t = 0; t < blocks.T;) {
    const std::int64_t i = blocks.position(t), end = blocks.end(t);
    float gate = 1.0F;
    if (i == 0) {
      before = 0.0F;
    } else {
      const float logit = before / static_cast<float>(i) +
                          scalars[0] * length_feature(i, a.max_position) + scalars[1];
      gate = 1.0F / (1.0F + std::exp(-logit));
    }
    float sum = 0.0F;
    const std::int32_t active =
        local_groups(i == 0 ? a.groups : active_groups(gate, a.groups), a.share);
    for (; t < end; ++t) {
      sum += a.score_T.data<float>()[t];
      a.gate_T.data<float>()[t] = gate;
      a.active_groups_T.data<std::int32_t>()[t] = active;
    }
    before += sum;
  }
}

void head_gate_backward(const Exec& exec, const HeadGateBackward& a) {
  const ScratchScope scope{exec};
  const HeadGateScratch s = head_gate_scratch(exec, a);
  const Blocks blocks{a.doc_start_T.data<std::int32_t>(), a.x_TD.dim(0), a.block};
  with_elem(a.x_TD.dtype(),
            [&](auto elem) { gate_gradient<decltype(elem)>(a, blocks, s.dgate_T.data<float>()); });
  for (std::int64_t q = 0; q < blocks.T / a.sequence && !a.budget_scale.absent(); ++q) {
    s.budget_S.data<float>()[q] = budget_gradient(a, blocks, q * a.sequence);
  }
  logit_gradient(a, blocks, s);
  score_gradient(blocks, s);
  with_elem(a.x_TD.dtype(), [&](auto elem) { input_gradient<decltype(elem)>(a, s); });
  sum_parts(a.dw_D, s.dw_PD, a.accumulate);
  scalar_gradient(a, blocks, s);
}

}  // namespace shoal::ops::cpu
