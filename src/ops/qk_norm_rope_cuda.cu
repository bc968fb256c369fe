// Per-head RMSNorm and rotary embedding, forward.
#include "ops/qk_norm_rope.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
#ifndef FWD_BATCH
#define FWD_BATCH 4
#endif
#ifndef FWD_MIN
#define FWD_MIN 4
#endif
constexpr int kHeadsTogether = FWD_BATCH;

template <class Elem>
struct Forward {
  HeadsCommon<Elem> c;
  Elem* qk_TC;
  float* rstd_TJ;
  std::int64_t qk_columns;
  float eps;
};

/// Weight and rotation of a lane's elements: y = (x.a a_cos - x.b b_sin, x.b b_cos + x.a a_sin).
template <int N>
struct WeightedTurn {
  Vec<float, N> a_cos, b_sin, b_cos, a_sin;
};
template <class Elem, int N, int kChunks>
__device__ WeightedTurn<N> weighted(const HeadPiece<Elem, N, kChunks>& w,
                                    const AnglePiece<N, kChunks>& angles, int c, bool norm) {
  const Halves<N> weight = to_floats(w.at[c]);
  WeightedTurn<N> turn;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float cos = angles.at[c].cos.v[k], sin = angles.at[c].sin.v[k];
    const float a = norm ? weight.a.v[k] : 1.0F, b = norm ? weight.b.v[k] : 1.0F;
    turn.a_cos.v[k] = a * cos;
    turn.b_sin.v[k] = b * sin;
    turn.b_cos.v[k] = b * cos;
    turn.a_sin.v[k] = a * sin;
  }
  return turn;
}
template <int N>
__device__ Halves<N> apply(const WeightedTurn<N>& turn, const Halves<N>& x, float factor) {
  Halves<N> y;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float a = x.a.v[k] * factor, b = x.b.v[k] * factor;
    y.a.v[k] = a * turn.a_cos.v[k] - b * turn.b_sin.v[k];
    y.b.v[k] = b * turn.b_cos.v[k] + a * turn.a_sin.v[k];
  }
  return y;
}

/// The queries or the keys of token t.
template <int N, int kChunks, int kBatch, class Elem>
__device__ void forward_heads(const Forward<Elem>& a, const HeadRange<Elem>& range, std::int64_t t,
                              const AnglePiece<N, kChunks>& angles, const LanePlace& place) {
  const bool norm = range.w_d != nullptr;
  HeadPiece<Elem, N, kChunks> w{};
  if (norm) w = load_head<N, kChunks>(range.w_d, place);
  WeightedTurn<N> turn[kChunks];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) turn[c] = weighted(w, angles, c, norm);
  for (int base = place.group; base - place.group < range.heads; base += place.groups * kBatch) {
    HeadPiece<Elem, N, kChunks> x[kBatch];
    float rstd[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int j = base + b * place.groups;
      x[b] = {};
      if (j < range.heads) {
        x[b] = load_head<N, kChunks>(a.c.qkv_TC + a.c.qkv_at(t, range.first + j), place);
      }
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      rstd[b] = 0.0F;
      for (int c = 0; c < kChunks; ++c) rstd[b] = add_squares(rstd[b], to_floats(x[b].at[c]));
    }
    if (norm) head_sums(rstd, place.lanes);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int j = base + b * place.groups;
      if (j >= range.heads) continue;
      rstd[b] = norm ? rsqrtf(rstd[b] / static_cast<float>(2 * place.half) + a.eps) : 1.0F;
      if (norm && place.first == 0) a.rstd_TJ[a.c.rstd_at(t, range.first + j)] = rstd[b];
      Elem* y_d = a.qk_TC + t * a.qk_columns + std::int64_t{range.first + j} * 2 * place.half;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (!place.has(c)) continue;
        store_halves(y_d, place, c, apply(turn[c], to_floats(x[b].at[c]), rstd[b]));
      }
    }
  }
}

template <class Elem, int N, int kChunks, int kBatch>
__global__ void __launch_bounds__(kThreads, kChunks == 1 ? FWD_MIN : 1)
    forward_kernel(Forward<Elem> a, int lanes) {
  const std::int64_t t = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (t >= a.c.T) return;  // the whole warp
  const LanePlace place = lane_place<N>(lanes, a.c.half);
  const auto angles = load_angles<N, kChunks>(a.c, a.c.position_T[t], place);
#pragma unroll 1
  for (const bool keys : {false, true}) {
    forward_heads<N, kChunks, kBatch>(a, range_of(a.c, keys), t, angles, place);
  }
}

}  // namespace

void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& a) {
  with_device_elem(a.qkv_TC.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Forward<Elem> args{.c = common_of<Elem>(a),
                             .qk_TC = device_data<Elem>(a.qk_TC),
                             .rstd_TJ = device_data<float>(a.rstd_TJ),
                             .qk_columns = a.layout.qk_columns(),
                             .eps = a.eps};
    const auto launch = [&](auto split) {
      using Split = decltype(split);
      forward_kernel<Elem, Split::kWidth, Split::kTimes, Split::kTogether>
          <<<blocks_for(args.c.T, kWarps), kThreads, 0, exec.cuda().stream>>>(
              args, Split::lanes(args.c.half));
    };
    with_head_split<Elem, kHeadsTogether>(args.c.half, launch, args.c.qkv_TC, args.c.cos_PC,
                                          args.c.sin_PC, args.qk_TC, args.c.q_weight_d,
                                          args.c.k_weight_d);
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
