#include <cmath>

#include "ops/cpu_math.hpp"
#include "shoal/ops/partials.hpp"
#include "shoal/ops/rmsnorm.hpp"

namespace shoal::ops::cpu {
namespace {

template <class Elem>
float square_sum(const Elem* x_D, std::int64_t D) {
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t d = 0; d < D; ++d) sum += to_float(x_D[d]) * to_float(x_D[d]);
  return sum;
}

template <class Elem>
void forward(const RmsNormForward& a) {
  const std::int64_t T = a.x_TD.dim(0);
  const std::int64_t D = a.x_TD.dim(1);
  const Elem* x_TD = a.x_TD.data<Elem>();
  const Elem* add_TD = optional_data<Elem>(a.add_TD);
  const Elem* w_D = a.w_D.data<Elem>();
  Elem* sum_TD = optional_data<Elem>(a.sum_TD);
  Elem* y_TD = a.y_TD.data<Elem>();
  float* rstd_T = a.rstd_T.data<float>();
#pragma omp parallel for if (T * D > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    const Elem* x_D = x_TD + t * D;
    if (add_TD != nullptr) {  // statistics see the rounded sum: backward reads that one
      const Elem* add_D = add_TD + t * D;
      Elem* sum_D = sum_TD + t * D;
#pragma omp simd
      for (std::int64_t d = 0; d < D; ++d) {
        sum_D[d] = from_float<Elem>(to_float(x_D[d]) + to_float(add_D[d]));
      }
      x_D = sum_D;
    }
    const float rstd = 1.0F / std::sqrt(square_sum(x_D, D) / static_cast<float>(D) + a.eps);
    rstd_T[t] = rstd;
    Elem* y_D = y_TD + t * D;
#pragma omp simd
    for (std::int64_t d = 0; d < D; ++d) {
      y_D[d] = from_float<Elem>(to_float(x_D[d]) * rstd * to_float(w_D[d]));
    }
  }
}

/// dx of one row; add null: no residual path.
template <class Elem>
void row_gradient(Elem* dx_D, const Elem* dy_D, const Elem* x_D, const Elem* w_D, const Elem* add_D,
                  float rstd, std::int64_t D) {
  float dot = 0.0F;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t d = 0; d < D; ++d) {
    dot += to_float(dy_D[d]) * to_float(w_D[d]) * to_float(x_D[d]);
  }
  const float along = dot * rstd * rstd / static_cast<float>(D);
  const auto gradient = [&](std::int64_t d) {
    return rstd * (to_float(dy_D[d]) * to_float(w_D[d]) - to_float(x_D[d]) * along);
  };
  if (add_D == nullptr) {
#pragma omp simd
    for (std::int64_t d = 0; d < D; ++d) dx_D[d] = from_float<Elem>(gradient(d));
  } else {
#pragma omp simd
    for (std::int64_t d = 0; d < D; ++d) {
      dx_D[d] = from_float<Elem>(to_float(add_D[d]) + gradient(d));
    }
  }
}

template <class Elem>
void backward(const RmsNormBackward& a) {
  const std::int64_t T = a.x_TD.dim(0);
  const std::int64_t D = a.x_TD.dim(1);
  const std::int64_t size = part_size(T);
  const Elem* add_TD = optional_data<Elem>(a.add_TD);
#pragma omp parallel for if (T * D > kParallelWork)
  for (std::int64_t p = 0; p < a.part_PD.dim(0); ++p) {
    float* part_D = a.part_PD.data<float>() + p * D;
    std::fill_n(part_D, D, 0.0F);
    for (std::int64_t t = p * size; t < std::min(T, (p + 1) * size); ++t) {
      const Elem* x_D = a.x_TD.data<Elem>() + t * D;
      const Elem* dy_D = a.dy_TD.data<Elem>() + t * D;
      const float rstd = a.rstd_T.data<float>()[t];
#pragma omp simd
      for (std::int64_t d = 0; d < D; ++d) {
        part_D[d] += to_float(dy_D[d]) * to_float(x_D[d]) * rstd;
      }
      row_gradient(a.dx_TD.data<Elem>() + t * D, dy_D, x_D, a.w_D.data<Elem>(),
                   add_TD == nullptr ? nullptr : add_TD + t * D, rstd, D);
    }
  }
}

}  // namespace

void rmsnorm_forward(const Exec&, const RmsNormForward& a) {
  with_elem(a.x_TD.dtype(), [&](auto elem) { forward<decltype(elem)>(a); });
}
void rmsnorm_backward(const Exec&, const RmsNormBackward& a) {
  with_elem(a.x_TD.dtype(), [&](auto elem) { backward<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
