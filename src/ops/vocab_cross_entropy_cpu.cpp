#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/cross_entropy_rows.hpp"
#include "shoal/ops/vocab_cross_entropy.hpp"

namespace shoal::ops::cpu {
namespace {

/// A row of all columns: those of each rank, in rank order.
struct RowTerms {
  float top, sum, at_target;
};
RowTerms meet(const ConstTensorView& terms_RT3, std::int64_t t) {
  const std::int64_t ranks = terms_RT3.dim(0), T = terms_RT3.dim(1);
  const auto of = [&](std::int64_t r) { return terms_RT3.data<float>() + (r * T + t) * 3; };
  RowTerms row{.top = -std::numeric_limits<float>::infinity(), .sum = 0.0F, .at_target = 0.0F};
  for (std::int64_t r = 0; r < ranks; ++r) row.top = std::max(row.top, of(r)[0]);
  for (std::int64_t r = 0; r < ranks; ++r) {
    row.sum += of(r)[1] * fast_exp(of(r)[0] - row.top);
    row.at_target += of(r)[2];
  }
  return row;
}

template <class Elem>
void run_terms(const VocabTerms& a) {
  const std::int64_t T = a.logits_TV.dim(0), V = a.logits_TV.dim(1);
#pragma omp parallel for if (T * V > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    const Elem* x_V = a.logits_TV.data<Elem>() + t * V;
    const std::int64_t target = a.target_T.data<std::int32_t>()[t] - a.first_id;
    const SoftmaxTerms terms = softmax_terms(x_V, V);
    float* out = a.terms_T3.data<float>() + t * 3;
    out[0] = terms.top;
    // All columns switched off: exp(-inf - -inf) would not be a number.
    out[1] = std::isinf(terms.top) && terms.top < 0.0F ? 0.0F : terms.sum;
    out[2] = target >= 0 && target < V ? to_float(x_V[target]) : 0.0F;
  }
}

template <class Elem>
void run(const VocabCrossEntropy& a) {
  const std::int64_t T = a.logits_TV.dim(0), V = a.logits_TV.dim(1);
  const bool with_grad = !a.grad_scale.absent();
  const float scale = with_grad ? *a.grad_scale.data<float>() : 0.0F;
#pragma omp parallel for if (T * V > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    Elem* x_V = a.logits_TV.data<Elem>() + t * V;
    const bool masked = a.mask_T.data<std::uint8_t>()[t] == 0;
    const RowTerms row = meet(a.terms_RT3, t);
    a.loss_T.data<float>()[t] = masked ? 0.0F : std::log(row.sum) + (row.top - row.at_target);
    if (!with_grad) continue;
    if (masked) {
      std::fill_n(x_V, V, from_float<Elem>(0.0F));
      continue;
    }
    const float inverse = 1.0F / row.sum, top = row.top;
#pragma omp simd
    for (std::int64_t v = 0; v < V; ++v) {
      x_V[v] = from_float<Elem>(fast_exp(to_float(x_V[v]) - top) * inverse * scale);
    }
    const std::int64_t target = a.target_T.data<std::int32_t>()[t] - a.first_id;
    if (target < 0 || target >= V) continue;
    x_V[target] = from_float<Elem>((fast_exp(row.at_target - top) * inverse - 1.0F) * scale);
  }
}

}  // namespace

void vocab_terms(const Exec&, const VocabTerms& a) {
  with_elem(a.logits_TV.dtype(), [&](auto elem) { run_terms<decltype(elem)>(a); });
}
void vocab_cross_entropy(const Exec&, const VocabCrossEntropy& a) {
  with_elem(a.logits_TV.dtype(), [&](auto elem) { run<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
