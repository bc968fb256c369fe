#include "shoal/ops/routed_swiglu.hpp"

#include <algorithm>

#include "ops/cpu_math.hpp"

namespace shoal::ops::cpu {
namespace {

template <class Elem>
struct Row {
  Elem *dgate_F, *dup_F, *h_F;
  const Elem *dh_F, *gate_F, *up_F;
};

/// Returns <dh, h>.
template <class Elem>
float backward_row(const Row<Elem>& a, float weight, std::int64_t F) {
  float dot = 0.0F;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t f = 0; f < F; ++f) {
    const float gate = to_float(a.gate_F[f]), up = to_float(a.up_F[f]), dh = to_float(a.dh_F[f]);
    const float s = sigmoid(gate);
    const float silu = gate * s;
    dot += dh * silu * up;
    // silu'(x) = s + x s (1 - s)
    a.dgate_F[f] = from_float<Elem>(weight * dh * up * s * (1.0F + gate * (1.0F - s)));
    a.dup_F[f] = from_float<Elem>(weight * dh * silu);
    a.h_F[f] = from_float<Elem>(weight * silu * up);
  }
  return dot;
}

template <class Elem>
void backward(const RoutedSwigluBackward& a) {
  const std::int64_t F = a.dh_RF.dim(1);
  std::int64_t rows = a.dh_RF.dim(0);
  if (!a.rows_limit.absent()) {
    rows = std::min<std::int64_t>(rows, *a.rows_limit.data<std::int32_t>());
  }
#pragma omp parallel for if (rows * F > kParallelWork)
  for (std::int64_t r = 0; r < rows; ++r) {
    const Elem* gate_F = a.gate_up_RF.data<Elem>() + r * 2 * F;
    Elem* dgate_F = a.dgate_up_RF.data<Elem>() + r * 2 * F;
    const Row<Elem> row{.dgate_F = dgate_F,
                        .dup_F = dgate_F + F,
                        .h_F = a.h_RF.data<Elem>() + r * F,
                        .dh_F = a.dh_RF.data<Elem>() + r * F,
                        .gate_F = gate_F,
                        .up_F = gate_F + F};
    a.dweight_R.data<float>()[r] = backward_row(row, a.weight_R.data<float>()[r], F);
  }
}

}  // namespace

void routed_swiglu_backward(const Exec&, const RoutedSwigluBackward& a) {
  with_elem(a.dh_RF.dtype(), [&](auto elem) { backward<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
