#pragma once
// Per-head kernels over packed queries and keys: which head a warp has, and its elements in the two
// halves that rotary embedding turns into each other.
#include "ops/cuda_common.cuh"
#include "shoal/ops/qk_norm_rope.hpp"

namespace shoal::ops::cuda {

/// Token, head and rotation angles of one warp.
struct HeadIndex {
  std::int64_t t;
  int j;
  bool is_query;
  const float* cos;
  const float* sin;
};

/// What all kernels read, and the sizes.
template <class Elem>
struct HeadsCommon {
  const Elem* qkv_TC;
  const float* cos_PC;
  const float* sin_PC;
  const std::int32_t* position_T;
  std::int64_t T, qkv_columns, qk_columns;
  int heads, groups, half;

  __device__ HeadIndex head(std::int64_t t, int j) const {
    const std::int64_t angle = std::int64_t{position_T[t]} * half;
    return {t, j, j < heads, cos_PC + angle, sin_PC + angle};
  }
  [[nodiscard]] __device__ std::int64_t qkv_at(const HeadIndex& h) const {
    return h.t * qkv_columns + std::int64_t{h.j} * 2 * half;
  }
  [[nodiscard]] __device__ std::int64_t qk_at(const HeadIndex& h) const {
    return h.t * qk_columns + std::int64_t{h.j} * 2 * half;
  }
  [[nodiscard]] __device__ std::int64_t rstd_at(const HeadIndex& h) const {
    return h.t * (heads + groups) + h.j;
  }
};

/// N elements of each half of a head, as floats.
template <int N>
struct Halves {
  Vec<float, N> a, b;
};
template <int N, class Elem>
__device__ inline Halves<N> load_halves(const Elem* x, int i, int half) {
  return {load_floats<N>(x + i), load_floats<N>(x + i + half)};
}
template <int N, class Elem>
__device__ void store_halves(Elem* y, int i, int half, const Halves<N>& x) {
  store_floats(y + i, x.a);
  store_floats(y + i + half, x.b);
}
/// Rotation by the angles at i, or by their opposite (direction -1).
template <int N>
__device__ inline Halves<N> rotate(const Halves<N>& x, const HeadIndex& h, int i, float direction) {
  const Vec<float, N> cos = load_vec<N>(h.cos + i);
  const Vec<float, N> sin = load_vec<N>(h.sin + i);
  Halves<N> y;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    y.a.v[k] = x.a.v[k] * cos.v[k] - direction * x.b.v[k] * sin.v[k];
    y.b.v[k] = x.b.v[k] * cos.v[k] + direction * x.a.v[k] * sin.v[k];
  }
  return y;
}
template <int N>
__device__ inline Halves<N> times(const Halves<N>& x, const Halves<N>& y) {
  Halves<N> z;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    z.a.v[k] = x.a.v[k] * y.a.v[k];
    z.b.v[k] = x.b.v[k] * y.b.v[k];
  }
  return z;
}
template <int N>
__device__ inline float total(const Halves<N>& x) {
  float sum = 0.0F;
#pragma unroll
  for (int k = 0; k < N; ++k) sum += x.a.v[k] + x.b.v[k];
  return sum;
}

template <class Elem, class Args>
HeadsCommon<Elem> common_of(const Args& a) {
  return {.qkv_TC = device_data<Elem>(a.qkv_TC),
          .cos_PC = a.cos_PC.template data<float>(),
          .sin_PC = a.sin_PC.template data<float>(),
          .position_T = a.position_T.template data<std::int32_t>(),
          .T = a.position_T.dim(0),
          .qkv_columns = a.layout.qkv_columns(),
          .qk_columns = a.layout.qk_columns(),
          .heads = static_cast<int>(a.layout.heads),
          .groups = static_cast<int>(a.layout.groups),
          .half = static_cast<int>(a.layout.head_dim / 2)};
}

}  // namespace shoal::ops::cuda
