#pragma once
// Softmax over one row of logits, for the losses on the CPU.
#include <limits>

#include "ops/cpu_math.hpp"

namespace shoal::ops::cpu {

/// The softmax of a row is exp(x - top) / sum.
struct SoftmaxTerms {
  float top;
  float sum;
};

template <class Elem>
SoftmaxTerms softmax_terms(const Elem* x_V, std::int64_t V) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (std::int64_t v = 0; v < V; ++v) {
    const float x = to_float(x_V[v]);
    top = x > top ? x : top;
  }
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t v = 0; v < V; ++v) sum += fast_exp(to_float(x_V[v]) - top);
  return {top, sum};
}

}  // namespace shoal::ops::cpu
