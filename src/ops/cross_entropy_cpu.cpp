#include <algorithm>
#include <cmath>

#include "ops/cross_entropy_rows.hpp"
#include "shoal/ops/cross_entropy.hpp"

namespace shoal::ops::cpu {
namespace {

template <class Elem>
void run(const CrossEntropy& a) {
  const std::int64_t T = a.logits_TV.dim(0);
  const std::int64_t V = a.logits_TV.dim(1);
  const bool with_grad = !a.grad_scale.absent();
  const float scale = with_grad ? *a.grad_scale.data<float>() : 0.0F;
  const std::int32_t* target_T = a.target_T.data<std::int32_t>();
  const std::uint8_t* mask_T = a.mask_T.data<std::uint8_t>();
  float* loss_T = a.loss_T.data<float>();
#pragma omp parallel for if (T * V > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    Elem* x_V = a.logits_TV.data<Elem>() + t * V;
    if (mask_T[t] == 0) {
      loss_T[t] = 0.0F;
      if (with_grad) std::fill_n(x_V, V, from_float<Elem>(0.0F));
      continue;
    }
    const SoftmaxTerms terms = softmax_terms(x_V, V);
    const float top = terms.top;  // a structured binding cannot enter the loop below (OpenMP)
    const float at_target = to_float(x_V[target_T[t]]);
    loss_T[t] = std::log(terms.sum) + (top - at_target);
    if (!with_grad) continue;
    const float inverse = 1.0F / terms.sum;
#pragma omp simd
    for (std::int64_t v = 0; v < V; ++v) {
      x_V[v] = from_float<Elem>(fast_exp(to_float(x_V[v]) - top) * inverse * scale);
    }
    x_V[target_T[t]] = from_float<Elem>((fast_exp(at_target - top) * inverse - 1.0F) * scale);
  }
}

}  // namespace

void cross_entropy(const Exec&, const CrossEntropy& a) {
  with_elem(a.logits_TV.dtype(), [&](auto elem) { run<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
