#include <cmath>

#include "ops/cpu_math.hpp"
#include "shoal/ops/partials.hpp"
#include "shoal/ops/qk_norm_rope.hpp"

namespace shoal::ops::cpu {
namespace {

/// Angles of one token: half = d/2 cosines and sines.
struct Angles {
  const float* cos;
  const float* sin;
  std::int64_t half;
};

template <class Args>
Angles angles_of(const Args& a, std::int64_t t) {
  const std::int64_t half = a.layout.head_dim / 2;
  const std::int64_t row = a.position_T.template data<std::int32_t>()[t] * half;
  return {a.cos_PC.template data<float>() + row, a.sin_PC.template data<float>() + row, half};
}

/// y = rotation of (x * rstd * w); without kNorm of x.
template <bool kNorm, class Elem>
void rotate(Elem* y, const Elem* x, const Elem* w, float rstd, const Angles& r) {
#pragma omp simd
  for (std::int64_t i = 0; i < r.half; ++i) {
    const std::int64_t j = i + r.half;
    float a = to_float(x[i]);
    float b = to_float(x[j]);
    if constexpr (kNorm) {
      a *= rstd * to_float(w[i]);
      b *= rstd * to_float(w[j]);
    }
    y[i] = from_float<Elem>(a * r.cos[i] - b * r.sin[i]);
    y[j] = from_float<Elem>(b * r.cos[i] + a * r.sin[i]);
  }
}

template <class Elem>
float inverse_rms(const Elem* x_d, std::int64_t d, float eps) {
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < d; ++i) sum += to_float(x_d[i]) * to_float(x_d[i]);
  return 1.0F / std::sqrt(sum / static_cast<float>(d) + eps);
}

/// Gradient before the rotation: the inverse rotation of dy, at element i of each half.
struct Pair {
  float a, b;
};
template <class Elem>
Pair unrotated(const Elem* dy, std::int64_t i, const Angles& r) {
  const float da = to_float(dy[i]);
  const float db = to_float(dy[i + r.half]);
  return {da * r.cos[i] + db * r.sin[i], db * r.cos[i] - da * r.sin[i]};
}

template <class Elem>
void forward(const QkNormRopeForward& a) {
  const std::int64_t T = a.position_T.dim(0);
  const std::int64_t d = a.layout.head_dim;
  const std::int64_t J = a.layout.heads + a.layout.groups;
  float* rstd_TJ = optional_data<float>(a.rstd_TJ);
#pragma omp parallel for if (T * J * d > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    const Angles angles = angles_of(a, t);
    for (std::int64_t j = 0; j < J; ++j) {
      const Elem* x_d = a.qkv_TC.data<Elem>() + t * a.layout.qkv_columns() + j * d;
      Elem* y_d = a.qk_TC.data<Elem>() + t * a.layout.qk_columns() + j * d;
      const Elem* w_d = optional_data<Elem>(j < a.layout.heads ? a.q_weight_d : a.k_weight_d);
      if (w_d == nullptr) {
        rotate<false>(y_d, x_d, w_d, 1.0F, angles);
        continue;
      }
      const float rstd = inverse_rms(x_d, d, a.eps);
      rstd_TJ[t * J + j] = rstd;
      rotate<true>(y_d, x_d, w_d, rstd, angles);
    }
  }
}

/// One head of the backward pass, in place; w null: rotation only.
template <class Elem>
void head_gradient(Elem* dy, const Elem* x, const Elem* w, float rstd, const Angles& r) {
  if (w == nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < r.half; ++i) {
      const Pair g = unrotated(dy, i, r);
      dy[i] = from_float<Elem>(g.a);
      dy[i + r.half] = from_float<Elem>(g.b);
    }
    return;
  }
  float dot = 0.0F;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t i = 0; i < r.half; ++i) {
    const Pair g = unrotated(dy, i, r);
    dot += g.a * to_float(w[i]) * to_float(x[i]);
    dot += g.b * to_float(w[i + r.half]) * to_float(x[i + r.half]);
  }
  const float along = dot * rstd * rstd / static_cast<float>(2 * r.half);
#pragma omp simd
  for (std::int64_t i = 0; i < r.half; ++i) {
    const std::int64_t j = i + r.half;
    const Pair g = unrotated(dy, i, r);
    dy[i] = from_float<Elem>(rstd * (g.a * to_float(w[i]) - to_float(x[i]) * along));
    dy[j] = from_float<Elem>(rstd * (g.b * to_float(w[j]) - to_float(x[j]) * along));
  }
}

/// part (+)= the gradient of the weight through one head.
template <class Elem>
void add_weight_gradient(float* part_d, const Elem* dy, const Elem* x, float rstd,
                         const Angles& r) {
#pragma omp simd
  for (std::int64_t i = 0; i < r.half; ++i) {
    const Pair g = unrotated(dy, i, r);
    part_d[i] += g.a * to_float(x[i]) * rstd;
    part_d[i + r.half] += g.b * to_float(x[i + r.half]) * rstd;
  }
}

/// The heads of one token.
template <class Elem>
void token_gradient(const QkNormRopeBackward& a, std::int64_t t, float* part_q_d, float* part_k_d) {
  const std::int64_t d = a.layout.head_dim, J = a.layout.heads + a.layout.groups;
  const float* rstd_TJ = optional_data<float>(a.rstd_TJ);
  const Angles angles = angles_of(a, t);
  for (std::int64_t j = 0; j < J; ++j) {
    const bool query = j < a.layout.heads;
    const std::int64_t at = t * a.layout.qkv_columns() + j * d;
    const Elem* x_d = a.qkv_TC.data<Elem>() + at;
    const Elem* w_d = optional_data<Elem>(query ? a.q_weight_d : a.k_weight_d);
    Elem* dy_d = a.dqkv_TC.data<Elem>() + at;
    const float rstd = rstd_TJ == nullptr ? 1.0F : rstd_TJ[t * J + j];
    if (w_d != nullptr) add_weight_gradient(query ? part_q_d : part_k_d, dy_d, x_d, rstd, angles);
    head_gradient(dy_d, x_d, w_d, rstd, angles);
  }
}

template <class Elem>
void backward(const QkNormRopeBackward& a) {
  const std::int64_t T = a.position_T.dim(0), d = a.layout.head_dim, size = part_size(T);
#pragma omp parallel for if (T * a.layout.qk_columns() > kParallelWork)
  for (std::int64_t p = 0; p < part_count(T); ++p) {
    float* part_q_d = nullptr;
    float* part_k_d = nullptr;
    if (!a.q_part_Pd.absent()) {
      part_q_d = a.q_part_Pd.data<float>() + p * d;
      part_k_d = a.k_part_Pd.data<float>() + p * d;
      std::fill_n(part_q_d, d, 0.0F);
      std::fill_n(part_k_d, d, 0.0F);
    }
    for (std::int64_t t = p * size; t < std::min(T, (p + 1) * size); ++t) {
      token_gradient<Elem>(a, t, part_q_d, part_k_d);
    }
  }
}

}  // namespace

void qk_norm_rope_forward(const Exec&, const QkNormRopeForward& a) {
  with_elem(a.qkv_TC.dtype(), [&](auto elem) { forward<decltype(elem)>(a); });
}
void qk_norm_rope_backward(const Exec&, const QkNormRopeBackward& a) {
  with_elem(a.qkv_TC.dtype(), [&](auto elem) { backward<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
