#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "shoal/ops/router.hpp"

namespace shoal::test {

/// A routing problem, and the router written as plain double loops over vectors.
struct RouterCase {
  std::int64_t T, E, K, S = 1;
  ops::RouterScore score = ops::RouterScore::softmax;
  bool normalise = true;
  float scaling = 1.0F;

  [[nodiscard]] std::string text() const {
    return "T" + std::to_string(T) + " E" + std::to_string(E) + " K" + std::to_string(K) + " S" +
           std::to_string(S) + (score == ops::RouterScore::softmax ? " softmax" : " sigmoid") +
           (normalise ? " normalised" : "");
  }
};

using Doubles = std::vector<double>;
using Ints = std::vector<std::int32_t>;

inline double logsumexp(const RouterCase& c, const Doubles& logits, std::int64_t t) {
  double sum = 0.0;
  for (std::int64_t e = 0; e < c.E; ++e) sum += std::exp(logits[t * c.E + e]);
  return std::log(sum);
}

inline Doubles router_scores(const RouterCase& c, const Doubles& logits) {
  Doubles out(logits.size());
  for (std::int64_t t = 0; t < c.T; ++t) {
    const double lse = logsumexp(c, logits, t);
    for (std::int64_t i = t * c.E; i < (t + 1) * c.E; ++i) {
      out[i] = c.score == ops::RouterScore::softmax ? std::exp(logits[i] - lse)
                                                    : 1.0 / (1.0 + std::exp(-logits[i]));
    }
  }
  return out;
}

inline Ints router_choice(const RouterCase& c, const Doubles& score, const Doubles& bias) {
  Ints index;
  for (std::int64_t t = 0; t < c.T; ++t) {
    Ints order(static_cast<std::size_t>(c.E));
    std::iota(order.begin(), order.end(), 0);
    const auto key = [&](std::int32_t e) { return score[t * c.E + e] + bias[e]; };
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return key(a) > key(b); });
    index.insert(index.end(), order.begin(), order.begin() + c.K);
  }
  return index;
}

inline Doubles router_weights(const RouterCase& c, const Doubles& score, const Ints& index) {
  Doubles weight(index.size());
  for (std::int64_t t = 0; t < c.T; ++t) {
    double sum = 0.0;
    for (std::int64_t i = t * c.K; i < (t + 1) * c.K; ++i) sum += score[t * c.E + index[i]];
    for (std::int64_t i = t * c.K; i < (t + 1) * c.K; ++i) {
      weight[i] = c.scaling * score[t * c.E + index[i]] / (c.normalise ? sum : 1.0);
    }
  }
  return weight;
}

struct RouterSums {
  Ints count;
  Doubles mean;
  double entropy = 0.0, z = 0.0;
};
inline RouterSums router_sums(const RouterCase& c, const Doubles& logits, const Ints& index) {
  RouterSums out{Ints(c.S * c.E), Doubles(c.S * c.E)};
  const Doubles score = router_scores(c, logits);
  const std::int64_t tokens = c.T / c.S;
  for (std::int64_t t = 0; t < c.T; ++t) {
    const double* p = score.data() + t * c.E;
    const double total = std::accumulate(p, p + c.E, 0.0);
    for (std::int64_t e = 0; e < c.E; ++e) {
      const double q = p[e] / total;
      out.mean[t / tokens * c.E + e] += q / static_cast<double>(tokens);
      out.entropy -= q > 0.0 ? q * std::log(q) : 0.0;
    }
    for (std::int64_t k = 0; k < c.K; ++k) ++out.count[t / tokens * c.E + index[t * c.K + k]];
    out.z += std::pow(logsumexp(c, logits, t), 2);
  }
  return out;
}

/// <dweight, weight> + aux_scale sum f P + z_scale sum lse^2, with the choice and f held fixed:
/// what router_backward differentiates.
struct RouterLoss {
  RouterCase c;
  Ints index, count;
  Doubles dweight;
  double aux_scale = 0.0, z_scale = 0.0;

  double operator()(const Doubles& logits) const {
    const Doubles weight = router_weights(c, router_scores(c, logits), index);
    const RouterSums sums = router_sums(c, logits, index);
    double loss = std::inner_product(weight.begin(), weight.end(), dweight.begin(), 0.0);
    for (std::size_t i = 0; i < count.size(); ++i) {
      const double f = static_cast<double>(count[i] * c.E * c.S) / static_cast<double>(c.K * c.T);
      loss += aux_scale * f * sums.mean[i];
    }
    return loss + z_scale * sums.z;
  }
};

}  // namespace shoal::test
