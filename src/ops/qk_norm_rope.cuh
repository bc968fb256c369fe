#pragma once
// Per-head kernels over packed queries and keys. A head belongs to `lanes` neighbouring lanes of a
// warp, a power of two; each takes kChunks times N neighbouring elements of the first half and the
// N that rotary embedding turns them into in the second.
#include <bit>

#include "ops/cuda_common.cuh"
#include "shoal/ops/qk_norm_rope.hpp"

namespace shoal::ops::cuda {

/// What all kernels read, and the sizes.
template <class Elem>
struct HeadsCommon {
  const Elem* qkv_TC;
  const Elem* q_weight_d;  ///< null: no norm
  const Elem* k_weight_d;
  const float* cos_PC;
  const float* sin_PC;
  const std::int32_t* position_T;
  std::int64_t T, qkv_columns;
  int heads, groups, half;

  [[nodiscard]] __device__ std::int64_t qkv_at(std::int64_t t, int j) const {
    return t * qkv_columns + std::int64_t{j} * 2 * half;
  }
  [[nodiscard]] __device__ std::int64_t rstd_at(std::int64_t t, int j) const {
    return t * (heads + groups) + j;
  }
};

/// Goes through the heads of tokens, `step` of them at a time, without a division for each.
struct HeadCursor {
  int token, head, token_step, head_step, heads;
  __device__ HeadCursor(int row, int step, int heads_of_token)
      : token{row / heads_of_token},
        head{row % heads_of_token},
        token_step{step / heads_of_token},
        head_step{step % heads_of_token},
        heads{heads_of_token} {}
  __device__ void next() {
    token += token_step;
    head += head_step;
    if (head < heads) return;
    head -= heads;
    ++token;
  }
};

/// Which elements of each half a lane has: those from first + c * step on.
struct LanePlace {
  int first, step, half;
  [[nodiscard]] __device__ int at(int c) const { return first + c * step; }
  [[nodiscard]] __device__ bool has(int c) const { return at(c) < half; }
};
template <int N>
__device__ inline LanePlace lane_place(int lanes, int half) {
  return {(static_cast<int>(threadIdx.x) & (lanes - 1)) * N, lanes * N, half};
}

/// N elements of each half of a head.
template <class Elem, int N>
struct Halves {
  Vec<Elem, N> a, b;
};
template <class Elem, int N>
__device__ inline Halves<float, N> to_floats(const Halves<Elem, N>& x) {
  return {to_floats(x.a), to_floats(x.b)};
}
/// Cosines and sines of the angles that turn them.
template <int N>
struct Angles {
  Vec<float, N> cos, sin;
};

/// A lane's elements of one head, kept as they are stored: zeros beyond the half.
template <class Elem, int N, int kChunks>
struct HeadPiece {
  Halves<Elem, N> at[kChunks];
};
template <int N, int kChunks, class Elem>
__device__ inline HeadPiece<Elem, N, kChunks> load_head(const Elem* x_d, const LanePlace& place) {
  HeadPiece<Elem, N, kChunks> piece{};
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (!place.has(c)) continue;
    piece.at[c] = {load_vec<N>(x_d + place.at(c)), load_vec<N>(x_d + place.at(c) + place.half)};
  }
  return piece;
}
template <class Elem, int N>
__device__ inline void store_halves(Elem* y_d, const LanePlace& place, int c,
                                    const Halves<float, N>& y) {
  store_floats(y_d + place.at(c), y.a);
  store_floats(y_d + place.at(c) + place.half, y.b);
}
template <int N, int kChunks>
struct AnglePiece {
  Angles<N> at[kChunks];
};
template <int N, int kChunks, class Elem>
__device__ inline AnglePiece<N, kChunks> load_angles(const HeadsCommon<Elem>& c, int position,
                                                     const LanePlace& place) {
  AnglePiece<N, kChunks> piece{};
  const std::int64_t row = std::int64_t{position} * c.half;
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    if (!place.has(i)) continue;
    piece.at[i] = {load_vec<N>(c.cos_PC + row + place.at(i)),
                   load_vec<N>(c.sin_PC + row + place.at(i))};
  }
  return piece;
}

/// Rotation by the angles, or by their opposite (direction -1), times `factor`.
template <int N>
__device__ inline Halves<float, N> rotate(const Halves<float, N>& x, const Angles<N>& angles,
                                          float direction, float factor) {
  Halves<float, N> y;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float cos = factor * angles.cos.v[k], sin = factor * angles.sin.v[k];
    y.a.v[k] = x.a.v[k] * cos - direction * x.b.v[k] * sin;
    y.b.v[k] = x.b.v[k] * cos + direction * x.a.v[k] * sin;
  }
  return y;
}
template <int N>
__device__ inline Halves<float, N> times(const Halves<float, N>& x, const Halves<float, N>& y) {
  Halves<float, N> z;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    z.a.v[k] = x.a.v[k] * y.a.v[k];
    z.b.v[k] = x.b.v[k] * y.b.v[k];
  }
  return z;
}
/// z + x * y.
template <int N>
__device__ inline Halves<float, N> add_product(Halves<float, N> z, const Halves<float, N>& x,
                                               const Halves<float, N>& y) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    z.a.v[k] += x.a.v[k] * y.a.v[k];
    z.b.v[k] += x.b.v[k] * y.b.v[k];
  }
  return z;
}
/// z + x * factor.
template <int N>
__device__ inline Halves<float, N> add_scaled(Halves<float, N> z, const Halves<float, N>& x,
                                              float factor) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    z.a.v[k] += x.a.v[k] * factor;
    z.b.v[k] += x.b.v[k] * factor;
  }
  return z;
}
/// sum + <x, y>.
template <int N>
__device__ inline float add_dot(float sum, const Halves<float, N>& x, const Halves<float, N>& y) {
#pragma unroll
  for (int k = 0; k < N; ++k) sum += x.a.v[k] * y.a.v[k] + x.b.v[k] * y.b.v[k];
  return sum;
}
/// Over the lanes of a head; all lanes of the warp must call.
__device__ inline float head_sum(float x, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kFullWarp, x, offset);
  }
  return x;
}

/// How a head is shared out.
template <int N, int kChunks>
struct HeadSplit {
  static constexpr int kWidth = N, kTimes = kChunks;
  /// Lanes of a head.
  [[nodiscard]] static int lanes(int half) {
    const auto pieces = static_cast<unsigned>(ceil_div(half, N));
    return static_cast<int>(std::min(std::bit_ceil(pieces), unsigned{kWarpSize}));
  }
};
/// Calls `body(HeadSplit)` with the widest accesses that the half of a head and the addresses
/// (null: absent) allow.
template <class Elem, class Body, class... Pointers>
void with_head_split(int half, const Body& body, const Pointers*... pointers) {
  constexpr int kWide = kVecWidth<Elem>, kTimes = 8;
  if (half <= kWarpSize * kWide && allows_vectors<Elem, kWide>(half, pointers...)) {
    body(HeadSplit<kWide, 1>{});
  } else if (half <= kWarpSize * 4 && allows_vectors<Elem, 4>(half, pointers...)) {
    body(HeadSplit<4, 1>{});
  } else {
    expect(half <= kWarpSize * kTimes, "qk_norm_rope: head_dim is at most 512 on the GPU");
    body(HeadSplit<1, kTimes>{});
  }
}

template <class Elem, class Args>
HeadsCommon<Elem> common_of(const Args& a) {
  return {.qkv_TC = device_data<Elem>(a.qkv_TC),
          .q_weight_d = device_data<Elem>(a.q_weight_d),
          .k_weight_d = device_data<Elem>(a.k_weight_d),
          .cos_PC = a.cos_PC.template data<float>(),
          .sin_PC = a.sin_PC.template data<float>(),
          .position_T = a.position_T.template data<std::int32_t>(),
          .T = a.position_T.dim(0),
          .qkv_columns = a.layout.qkv_columns(),
          .heads = static_cast<int>(a.layout.heads),
          .groups = static_cast<int>(a.layout.groups),
          .half = static_cast<int>(a.layout.head_dim / 2)};
}

}  // namespace shoal::ops::cuda
