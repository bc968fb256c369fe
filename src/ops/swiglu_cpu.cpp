#include <algorithm>

#include "ops/cpu_math.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::ops::cpu {
namespace {

std::int64_t rows_in_use(const ConstTensorView& rows_limit, std::int64_t rows) {
  if (rows_limit.absent()) return rows;
  return std::min<std::int64_t>(rows, *rows_limit.data<std::int32_t>());
}

template <class Elem>
void forward(const SwigluForward& a) {
  const std::int64_t F = a.h_RF.dim(1);
  const std::int64_t rows = rows_in_use(a.rows_limit, a.h_RF.dim(0));
#pragma omp parallel for if (rows * F > kParallelWork)
  for (std::int64_t r = 0; r < rows; ++r) {
    const Elem* gate_F = a.gate_up_RF.data<Elem>() + r * 2 * F;
    const Elem* up_F = gate_F + F;
    Elem* h_F = a.h_RF.data<Elem>() + r * F;
#pragma omp simd
    for (std::int64_t f = 0; f < F; ++f) {
      const float gate = to_float(gate_F[f]);
      h_F[f] = from_float<Elem>(gate * sigmoid(gate) * to_float(up_F[f]));
    }
  }
}

template <class Elem>
void backward(const SwigluBackward& a) {
  const std::int64_t F = a.dh_RF.dim(1);
  const std::int64_t rows = rows_in_use(a.rows_limit, a.dh_RF.dim(0));
#pragma omp parallel for if (rows * F > kParallelWork)
  for (std::int64_t r = 0; r < rows; ++r) {
    const Elem* gate_F = a.gate_up_RF.data<Elem>() + r * 2 * F;
    const Elem* up_F = gate_F + F;
    const Elem* dh_F = a.dh_RF.data<Elem>() + r * F;
    Elem* dgate_F = a.dgate_up_RF.data<Elem>() + r * 2 * F;
    Elem* dup_F = dgate_F + F;
#pragma omp simd
    for (std::int64_t f = 0; f < F; ++f) {
      const float gate = to_float(gate_F[f]);
      const float up = to_float(up_F[f]);
      const float dh = to_float(dh_F[f]);
      const float s = sigmoid(gate);
      // silu'(x) = s + x s (1 - s)
      dgate_F[f] = from_float<Elem>(dh * up * s * (1.0F + gate * (1.0F - s)));
      dup_F[f] = from_float<Elem>(dh * gate * s);
    }
  }
}

}  // namespace

void swiglu_forward(const Exec&, const SwigluForward& a) {
  with_elem(a.h_RF.dtype(), [&](auto elem) { forward<decltype(elem)>(a); });
}
void swiglu_backward(const Exec&, const SwigluBackward& a) {
  with_elem(a.dh_RF.dtype(), [&](auto elem) { backward<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
