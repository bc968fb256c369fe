#pragma once
// Per-head kernels over packed queries and keys. A warp has one token, whose angles it reads once
// for all heads. A head belongs to `lanes` neighbouring lanes, a power of two; each takes kChunks
// times N neighbouring elements of the first half and the N that rotary embedding turns them into
// in the second. A warp works on kBatch heads for each such group of lanes at a time, all on their
// way together.
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

/// The heads of a token that share a weight: queries or keys.
template <class Elem>
struct HeadRange {
  const Elem* w_d;  ///< null: no norm
  int first, heads;
};
template <class Elem>
__device__ inline HeadRange<Elem> range_of(const HeadsCommon<Elem>& c, bool keys) {
  return {keys ? c.k_weight_d : c.q_weight_d, keys ? c.heads : 0, keys ? c.groups : c.heads};
}

/// Which elements of each half a lane has: those from first + c * step on. Its group of lanes has
/// the heads group, group + groups, ... of a range.
struct LanePlace {
  int lanes, group, groups, first, step, half;
  [[nodiscard]] __device__ int at(int c) const { return first + c * step; }
  [[nodiscard]] __device__ bool has(int c) const { return at(c) < half; }
};
template <int N>
__device__ inline LanePlace lane_place(int lanes, int half) {
  const auto lane = static_cast<int>(threadIdx.x % kWarpSize);
  return {lanes, lane / lanes, kWarpSize / lanes, (lane & (lanes - 1)) * N, lanes * N, half};
}

/// N elements of each half of a head, and the same as they are stored.
template <int N>
struct Halves {
  Vec<float, N> a, b;
};
template <class Elem, int N>
struct PackedHalves {
  Packed<Elem, N> a, b;
};
template <class Elem, int N>
__device__ inline Halves<N> to_floats(const PackedHalves<Elem, N>& x) {
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
  PackedHalves<Elem, N> at[kChunks];
};
template <int N, int kChunks>
struct FloatPiece {
  Halves<N> at[kChunks];
};
template <int N, int kChunks, class Elem>
__device__ inline HeadPiece<Elem, N, kChunks> load_head(const Elem* x_d, const LanePlace& place) {
  HeadPiece<Elem, N, kChunks> piece{};
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (!place.has(c)) continue;
    piece.at[c] = {load_packed<N>(x_d + place.at(c)),
                   load_packed<N>(x_d + place.at(c) + place.half)};
  }
  return piece;
}
template <class Elem, int N>
__device__ inline void store_halves(Elem* y_d, const LanePlace& place, int c, const Halves<N>& y) {
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

/// sum + <x, x>.
template <int N>
__device__ inline float add_squares(float sum, const Halves<N>& x) {
#pragma unroll
  for (int k = 0; k < N; ++k) sum += x.a.v[k] * x.a.v[k] + x.b.v[k] * x.b.v[k];
  return sum;
}
/// Each sum over the lanes of a head; all lanes of the warp must call.
template <int kBatch>
__device__ inline void head_sums(float (&x)[kBatch], int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
#pragma unroll
    for (int b = 0; b < kBatch; ++b) x[b] += __shfl_xor_sync(kFullWarp, x[b], offset);
  }
}

/// How heads are shared out.
template <int N, int kChunks, int kBatch>
struct HeadSplit {
  static constexpr int kWidth = N, kTimes = kChunks, kTogether = kBatch;
  /// Lanes of a head.
  [[nodiscard]] static int lanes(int half) {
    const auto pieces = static_cast<unsigned>(ceil_div(half, N));
    return static_cast<int>(std::min(std::bit_ceil(pieces), unsigned{kWarpSize}));
  }
};
/// Calls `body(HeadSplit)` with four elements at a time where the half of a head and the addresses
/// (null: absent) allow it. Wider accesses leave fewer lanes to a head, and hence fewer heads to a
/// lane that share its angles.
template <class Elem, int kBatch, class Body, class... Pointers>
void with_head_split(int half, const Body& body, const Pointers*... pointers) {
  constexpr int kTimes = 8;
  if (half <= kWarpSize * 4 && allows_vectors<Elem, 4>(half, pointers...)) {
    body(HeadSplit<4, 1, kBatch>{});
  } else {
    expect(half <= kWarpSize * kTimes, "qk_norm_rope: head_dim is at most 512 on the GPU");
    body(HeadSplit<1, kTimes, 1>{});
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
