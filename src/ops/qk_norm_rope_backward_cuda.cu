// Per-head RMSNorm and rotary embedding, backward: with g = the gradient turned back, dx = rstd (g
// w
// - x along), along = rstd^2 / d <g w, x>, and the parts of dw = sum of g x rstd.
//
// A block goes through the queries of one part of the tokens, then through its keys. Each group of
// lanes takes one head after the other; the next one is on its way meanwhile. Its share of dw stays
// in registers until the part is done.
#include "ops/qk_norm_rope.cuh"
#include "shoal/ops/partials.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

template <class Elem>
struct Backward {
  HeadsCommon<Elem> c;
  Elem* dqkv_TC;
  float* q_part_Pd;
  float* k_part_Pd;
  const float* rstd_TJ;
  std::int64_t tokens_per_part;
};

/// Heads first to first + heads - 1 of some tokens; row r is head r % heads of token r / heads.
struct HeadRange {
  std::int64_t token;
  int first, heads, rows;
  [[nodiscard]] __device__ std::int64_t t(int row) const { return token + row / heads; }
  [[nodiscard]] __device__ int j(int row) const { return first + row % heads; }
};

/// What a lane reads of one head.
template <class Elem, int N, int kChunks>
struct HeadRow {
  HeadPiece<Elem, N, kChunks> dy, x;
  AnglePiece<N, kChunks> angles;
  float rstd;
};
template <int N, int kChunks, class Elem>
__device__ HeadRow<Elem, N, kChunks> load_row(const Backward<Elem>& a, const HeadRange& range,
                                              int row, const LanePlace& place) {
  HeadRow<Elem, N, kChunks> out{};
  if (row >= range.rows) return out;
  const std::int64_t t = range.t(row), at = a.c.qkv_at(t, range.j(row));
  out.dy = load_head<N, kChunks>(a.dqkv_TC + at, place);
  if (a.rstd_TJ != nullptr) {
    out.x = load_head<N, kChunks>(a.c.qkv_TC + at, place);
    out.rstd = a.rstd_TJ[a.c.rstd_at(t, range.j(row))];
  }
  out.angles = load_angles<N, kChunks>(a.c, t, place);
  return out;
}

/// The gradient of one head, g its gradient turned back; adds to the sums of the weight.
template <class Elem, int N, int kChunks>
__device__ void norm_gradient(HeadPiece<float, N, kChunks>& g, HeadPiece<float, N, kChunks>& sums,
                              const HeadRow<Elem, N, kChunks>& row,
                              const HeadPiece<Elem, N, kChunks>& w, int lanes, int half) {
  float dot = 0.0F;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const Halves<float, N> gx = times(g.at[c], to_floats(row.x.at[c]));
    sums.at[c] = plus(sums.at[c], gx, row.rstd);
    g.at[c] = times(g.at[c], to_floats(w.at[c]));
    dot += total(times(gx, to_floats(w.at[c])));
  }
  const float along = head_sum(dot, lanes) * row.rstd * row.rstd / static_cast<float>(2 * half);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    g.at[c] = plus({}, plus(g.at[c], to_floats(row.x.at[c]), -along), row.rstd);
  }
}

template <int N, int kChunks, class Elem>
__device__ HeadPiece<float, N, kChunks> backward_heads(const Backward<Elem>& a,
                                                       const HeadRange& range, const Elem* w_d,
                                                       int lanes) {
  const LanePlace place = lane_place<N>(lanes, a.c.half);
  const int groups = kThreads / lanes, group = static_cast<int>(threadIdx.x) / lanes;
  HeadPiece<float, N, kChunks> sums{};
  HeadPiece<Elem, N, kChunks> w{};
  if (w_d != nullptr) w = load_head<N, kChunks>(w_d, place);
  auto next = load_row<N, kChunks>(a, range, group, place);
  for (int base = 0; base < range.rows; base += groups) {
    const HeadRow<Elem, N, kChunks> row = next;
    next = load_row<N, kChunks>(a, range, base + groups + group, place);
    HeadPiece<float, N, kChunks> g;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      g.at[c] = rotate(to_floats(row.dy.at[c]), row.angles.at[c], -1.0F);
    }
    if (w_d != nullptr) norm_gradient(g, sums, row, w, lanes, a.c.half);
    if (base + group >= range.rows) continue;
    Elem* dx_d = a.dqkv_TC + a.c.qkv_at(range.t(base + group), range.j(base + group));
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (place.has(c)) store_halves(dx_d, place, c, g.at[c]);
    }
  }
  return sums;
}

/// Adds the sums of all groups of lanes, in the warp and then over the warps in order.
template <int N, int kChunks>
__device__ void store_part(float* part_d, const HeadPiece<float, N, kChunks>& sums, int lanes,
                           int half) {
  extern __shared__ float warp_sums[];  // [kWarps, 2 half]
  const LanePlace place = lane_place<N>(lanes, half);
  float* own_d = warp_sums + threadIdx.x / kWarpSize * 2 * half;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float a = sums.at[c].a.v[k], b = sums.at[c].b.v[k];
      for (int offset = lanes; offset < kWarpSize; offset *= 2) {
        a += __shfl_xor_sync(kFullWarp, a, offset);
        b += __shfl_xor_sync(kFullWarp, b, offset);
      }
      if (threadIdx.x % kWarpSize < lanes && place.has(c)) {
        own_d[place.at(c) + k] = a;
        own_d[place.at(c) + k + half] = b;
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * half; i += kThreads) {
    float sum = 0.0F;
    for (int warp = 0; warp < kWarps; ++warp) sum += warp_sums[warp * 2 * half + i];
    part_d[i] = sum;
  }
  __syncthreads();  // `warp_sums` is free for the next call
}

template <class Elem, int N, int kChunks>
__global__ void __launch_bounds__(kThreads) backward_kernel(Backward<Elem> a, int lanes) {
  const std::int64_t token = blockIdx.x * a.tokens_per_part, half = a.c.half;
  const auto tokens = static_cast<int>(max(std::int64_t{0}, min(a.c.T - token, a.tokens_per_part)));
  const HeadRange queries{token, 0, a.c.heads, tokens * a.c.heads};
  const HeadRange keys{token, a.c.heads, a.c.groups, tokens * a.c.groups};
  const auto of_q = backward_heads<N, kChunks>(a, queries, a.c.q_weight_d, lanes);
  if (a.q_part_Pd != nullptr) {
    store_part(a.q_part_Pd + blockIdx.x * 2 * half, of_q, lanes, a.c.half);
  }
  const auto of_k = backward_heads<N, kChunks>(a, keys, a.c.k_weight_d, lanes);
  if (a.k_part_Pd != nullptr) {
    store_part(a.k_part_Pd + blockIdx.x * 2 * half, of_k, lanes, a.c.half);
  }
}

}  // namespace

void qk_norm_rope_backward(const Exec& exec, const QkNormRopeBackward& a) {
  with_device_elem(a.qkv_TC.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const std::int64_t T = a.position_T.dim(0);
    const Backward<Elem> args{.c = common_of<Elem>(a),
                              .dqkv_TC = device_data<Elem>(a.dqkv_TC),
                              .q_part_Pd = device_data<float>(a.q_part_Pd),
                              .k_part_Pd = device_data<float>(a.k_part_Pd),
                              .rstd_TJ = device_data<float>(a.rstd_TJ),
                              .tokens_per_part = part_size(T)};
    const auto launch = [&](auto split) {
      using Split = decltype(split);
      const auto shared = sizeof(float) * kWarps * static_cast<std::size_t>(a.layout.head_dim);
      backward_kernel<Elem, Split::kWidth, Split::kTimes>
          <<<static_cast<unsigned>(part_count(T)), kThreads, shared, exec.cuda().stream>>>(
              args, Split::lanes(args.c.half));
    };
    with_head_split<Elem>(args.c.half, launch, args.c.qkv_TC, args.c.cos_PC, args.c.sin_PC,
                          args.dqkv_TC, args.c.q_weight_d, args.c.k_weight_d);
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
