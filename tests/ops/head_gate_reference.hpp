#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "shoal/ops/head_gate.hpp"
#include "support/tensors.hpp"

namespace shoal::test {

/// A gate over T tokens, computed for each token from scratch in double precision.
struct GateProblem {
  std::int64_t T, D, sequence, block, groups, heads, head_dim, max_position;
  std::vector<std::int32_t> doc_start;
  std::vector<double> x, w;
  double c = 0.0, b0 = 0.0;

  [[nodiscard]] std::int64_t position(std::int64_t t) const { return t - doc_start[t]; }
  /// Position in the document of the first token of t's block.
  [[nodiscard]] std::int64_t block_position(std::int64_t t) const {
    return position(t) / block * block;
  }
  [[nodiscard]] double gate(std::int64_t t) const {
    const std::int64_t i = block_position(t);
    if (i == 0) return 1.0;
    double sum = 0.0;
    for (std::int64_t u = doc_start[t]; u < doc_start[t] + i; ++u) {
      for (std::int64_t d = 0; d < D; ++d) sum += w[d] * x[u * D + d];
    }
    const double l = std::log2(1.0 + static_cast<double>(i)) /
                     std::log2(1.0 + static_cast<double>(max_position));
    return 1.0 / (1.0 + std::exp(-(sum / static_cast<double>(i) + c * l + b0)));
  }
  [[nodiscard]] std::int32_t active(std::int64_t t) const {
    const double n = std::floor(static_cast<double>(groups) * gate(t) + 0.5);
    return static_cast<std::int32_t>(std::clamp(n, 1.0, static_cast<double>(groups)));
  }
};

/// What the straight-through gradient is the true gradient of: the ramp of each active pair times
/// <dout, out>, and the budget term. The active counts are held fixed.
struct GateLoss {
  std::vector<double> dout, out;
  std::vector<std::int32_t> active;
  double budget_scale = 0.0, budget = 1.0;

  [[nodiscard]] double operator()(const GateProblem& p) const {
    double loss = 0.0;
    for (std::int64_t t = 0; t < p.T; ++t) {
      for (std::int32_t j = 0; j < active[t]; ++j) loss += ramp(p, t, j) * product(p, t, j);
    }
    for (std::int64_t begin = 0; begin < p.T; begin += p.sequence) {
      double sum = 0.0, blocks = 0.0;
      for (std::int64_t t = begin; t < begin + p.sequence; ++t) {
        if (p.position(t) != p.block_position(t)) continue;
        sum += p.gate(t);
        blocks += 1.0;
      }
      loss += budget_scale * std::pow(sum / blocks - budget, 2);
    }
    return loss;
  }

 private:
  [[nodiscard]] static double ramp(const GateProblem& p, std::int64_t t, std::int32_t j) {
    if (p.block_position(t) == 0) return 1.0;
    return std::clamp((static_cast<double>(p.groups) * p.gate(t) - j - 0.5) / 2.0 + 0.5, 0.0, 1.0);
  }
  [[nodiscard]] double product(const GateProblem& p, std::int64_t t, std::int32_t j) const {
    const std::int64_t width = p.heads / p.groups * p.head_dim;
    double sum = 0.0;
    for (std::int64_t i = 0; i < width; ++i) {
      const std::int64_t at = t * p.heads * p.head_dim + j * width + i;
      sum += dout[at] * out[at];
    }
    return sum;
  }
};

/// Central difference of the loss with respect to one number of the problem.
inline double slope(GateProblem& p, const GateLoss& loss, double& x) {
  constexpr double kStep = 1e-6;
  const double at = x;
  x = at + kStep;
  const double above = loss(p);
  x = at - kStep;
  const double below = loss(p);
  x = at;
  return (above - below) / (2.0 * kStep);
}

inline std::vector<double> to_doubles(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}
inline std::vector<float> to_floats(const std::vector<double>& x) {
  return {x.begin(), x.end()};
}

/// Start of each token's document for documents of these lengths laid end to end.
inline std::vector<std::int32_t> doc_starts(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> out;
  for (const std::int32_t length : lengths) {
    out.insert(out.end(), static_cast<std::size_t>(length), static_cast<std::int32_t>(out.size()));
  }
  return out;
}

/// The values are drawn in the precision of `dtype`, so that both sides see the same numbers.
inline GateProblem make_problem(const Exec& exec, GateProblem p, DType dtype, float spread) {
  p.x = to_doubles(download_floats(exec, normal(exec, {p.T, p.D}, dtype, 1, spread)));
  p.w = to_doubles(download_floats(exec, normal(exec, {p.D}, DType::f32, 2)));
  return p;
}

}  // namespace shoal::test
