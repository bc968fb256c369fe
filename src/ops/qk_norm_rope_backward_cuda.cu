// Per-head RMSNorm and rotary embedding, backward: with g = the gradient turned back, n = x rstd:
// dx = rstd (g w - n <g w, n> / d), and the parts of dw = sum of g n.
//
// Block p has the tokens p, p + P, ... of P parts, so that neighbouring blocks read neighbouring
// tokens; a warp takes one after the other. Its share of dw stays in registers until the end.
#include "ops/qk_norm_rope.cuh"
#include "shoal/ops/partials.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
#ifndef BWD_BATCH
#define BWD_BATCH 4
#endif
#ifndef BWD_MIN
#define BWD_MIN 2
#endif
constexpr int kHeadsTogether = BWD_BATCH;

template <class Elem>
struct Backward {
  HeadsCommon<Elem> c;
  Elem* dqkv_TC;
  float* q_part_Pd;
  float* k_part_Pd;
  const float* rstd_TJ;
};

/// What a lane reads of one head; zeros beyond the heads.
template <class Elem, int N, int kChunks>
struct Row {
  HeadPiece<Elem, N, kChunks> dy, x;
  float rstd;
};
template <int N, int kChunks, class Elem>
__device__ Row<Elem, N, kChunks> load_row(const Backward<Elem>& a, std::int64_t t, int j, bool norm,
                                          const LanePlace& place) {
  Row<Elem, N, kChunks> row{};
  const std::int64_t at = a.c.qkv_at(t, j);
  row.dy = load_head<N, kChunks>(a.dqkv_TC + at, place);
  if (!norm) return row;
  row.x = load_head<N, kChunks>(a.c.qkv_TC + at, place);
  row.rstd = a.rstd_TJ[a.c.rstd_at(t, j)];
  return row;
}

/// Rotation by the opposite of the angles.
template <int N>
__device__ Halves<N> turn_back(const Halves<N>& y, const Angles<N>& angles) {
  Halves<N> x;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float cos = angles.cos.v[k], sin = angles.sin.v[k];
    x.a.v[k] = y.a.v[k] * cos + y.b.v[k] * sin;
    x.b.v[k] = y.b.v[k] * cos - y.a.v[k] * sin;
  }
  return x;
}

/// g becomes g w; adds g n to the sums of the weight; what comes back is <g w, n> of these
/// elements.
template <int N>
__device__ float weigh(Halves<N>& g, Halves<N>& sums, const Halves<N>& x, float rstd,
                       const Halves<N>& w) {
  float dot = 0.0F;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float na = x.a.v[k] * rstd, nb = x.b.v[k] * rstd;
    sums.a.v[k] += g.a.v[k] * na;
    sums.b.v[k] += g.b.v[k] * nb;
    g.a.v[k] *= w.a.v[k];
    g.b.v[k] *= w.b.v[k];
    dot += g.a.v[k] * na + g.b.v[k] * nb;
  }
  return dot;
}
/// g factor - x along.
template <int N>
__device__ Halves<N> combine(const Halves<N>& g, float factor, const Halves<N>& x, float along) {
  Halves<N> y;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    y.a.v[k] = g.a.v[k] * factor - x.a.v[k] * along;
    y.b.v[k] = g.b.v[k] * factor - x.b.v[k] * along;
  }
  return y;
}

/// The queries or the keys of token t; adds to this lane's share of the weight's gradient.
template <int N, int kChunks, int kBatch, class Elem>
__device__ void backward_heads(const Backward<Elem>& a, const HeadRange<Elem>& range,
                               std::int64_t t, const AnglePiece<N, kChunks>& angles,
                               const LanePlace& place, FloatPiece<N, kChunks>& sums) {
  const bool norm = range.w_d != nullptr;
  HeadPiece<Elem, N, kChunks> w{};
  if (norm) w = load_head<N, kChunks>(range.w_d, place);
  for (int base = place.group; base - place.group < range.heads; base += place.groups * kBatch) {
    Row<Elem, N, kChunks> row[kBatch];
    FloatPiece<N, kChunks> g[kBatch];
    float dot[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int j = base + b * place.groups;
      row[b] = {};
      if (j < range.heads) row[b] = load_row<N, kChunks>(a, t, range.first + j, norm, place);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      dot[b] = 0.0F;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        g[b].at[c] = turn_back(to_floats(row[b].dy.at[c]), angles.at[c]);
        if (!norm) continue;
        dot[b] += weigh(g[b].at[c], sums.at[c], to_floats(row[b].x.at[c]), row[b].rstd,
                        to_floats(w.at[c]));
      }
    }
    if (norm) head_sums(dot, place.lanes);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int j = base + b * place.groups;
      if (j >= range.heads) continue;
      const float rstd = norm ? row[b].rstd : 1.0F;
      const float along = dot[b] * rstd * rstd / static_cast<float>(2 * place.half);
      Elem* dx_d = a.dqkv_TC + a.c.qkv_at(t, range.first + j);
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (!place.has(c)) continue;
        store_halves(dx_d, place, c, combine(g[b].at[c], rstd, to_floats(row[b].x.at[c]), along));
      }
    }
  }
}

/// Adds the sums of all groups of lanes, in the warp and then over the warps in order.
template <int N, int kChunks>
__device__ void store_part(float* part_d, const FloatPiece<N, kChunks>& sums,
                           const LanePlace& place) {
  extern __shared__ float warp_sums[];  // [kWarps, 2 half]
  const int half = place.half;
  float* own_d = warp_sums + threadIdx.x / kWarpSize * 2 * half;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float a = sums.at[c].a.v[k], b = sums.at[c].b.v[k];
      for (int offset = place.lanes; offset < kWarpSize; offset *= 2) {
        a += __shfl_xor_sync(kFullWarp, a, offset);
        b += __shfl_xor_sync(kFullWarp, b, offset);
      }
      if (place.group == 0 && place.has(c)) {
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

template <class Elem, int N, int kChunks, int kBatch>
__global__ void __launch_bounds__(kThreads, kChunks == 1 ? BWD_MIN : 1)
    backward_kernel(Backward<Elem> a, int lanes) {
  const LanePlace place = lane_place<N>(lanes, a.c.half);
  const std::int64_t first = blockIdx.x + std::int64_t{gridDim.x} * (threadIdx.x / kWarpSize);
#pragma unroll 1
  for (const bool keys : {false, true}) {
    FloatPiece<N, kChunks> sums{};
    for (std::int64_t t = first; t < a.c.T; t += std::int64_t{gridDim.x} * kWarps) {
      const auto angles = load_angles<N, kChunks>(a.c, a.c.position_T[t], place);
      backward_heads<N, kChunks, kBatch>(a, range_of(a.c, keys), t, angles, place, sums);
    }
    float* part_Pd = keys ? a.k_part_Pd : a.q_part_Pd;
    if (part_Pd == nullptr) continue;  // without norms
    store_part(part_Pd + std::int64_t{blockIdx.x} * 2 * a.c.half, sums, place);
  }
}

}  // namespace

void qk_norm_rope_backward(const Exec& exec, const QkNormRopeBackward& a) {
  with_device_elem(a.qkv_TC.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Backward<Elem> args{.c = common_of<Elem>(a),
                              .dqkv_TC = device_data<Elem>(a.dqkv_TC),
                              .q_part_Pd = device_data<float>(a.q_part_Pd),
                              .k_part_Pd = device_data<float>(a.k_part_Pd),
                              .rstd_TJ = device_data<float>(a.rstd_TJ)};
    const auto launch = [&](auto split) {
      using Split = decltype(split);
      const auto shared = sizeof(float) * kWarps * static_cast<std::size_t>(a.layout.head_dim);
      backward_kernel<Elem, Split::kWidth, Split::kTimes, Split::kTogether>
          <<<static_cast<unsigned>(part_count(args.c.T)), kThreads, shared, exec.cuda().stream>>>(
              args, Split::lanes(args.c.half));
    };
    with_head_split<Elem, kHeadsTogether>(args.c.half, launch, args.c.qkv_TC, args.c.cos_PC,
                                          args.c.sin_PC, args.dqkv_TC, args.c.q_weight_d,
                                          args.c.k_weight_d);
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
