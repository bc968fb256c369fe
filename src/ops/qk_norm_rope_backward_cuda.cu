// Per-head RMSNorm and rotary embedding, backward: with g = the gradient turned back,
// dx = rstd (g w - x along), along = rstd^2 / d <g w, x>, and the parts of dw = sum of g x rstd.
//
// Block p of P goes through the queries of the tokens p, p + P, ..., so that neighbouring blocks
// read neighbouring tokens, then through their keys. Each group of lanes takes one head after the
// other; the next one is on its way meanwhile. Its share of dw stays in registers until the part is
// done.
#include "ops/qk_norm_rope.cuh"
#include "shoal/ops/partials.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 2;  // of a multiprocessor
constexpr int kWarps = kThreads / kWarpSize;

template <class Elem>
struct Backward {
  HeadsCommon<Elem> c;
  Elem* dqkv_TC;
  float* q_part_Pd;
  float* k_part_Pd;
  const float* rstd_TJ;
};

/// Heads first, first + 1, ... of every token_step-th token from `token` on.
struct HeadRange {
  std::int64_t token, token_step;
  int tokens, first, heads;
  [[nodiscard]] __device__ std::int64_t t(const HeadCursor& at) const {
    return token + at.token * token_step;
  }
  [[nodiscard]] __device__ int j(const HeadCursor& at) const { return first + at.head; }
  [[nodiscard]] __device__ bool holds(const HeadCursor& at) const { return at.token < tokens; }
};

/// What a lane reads of one head ahead of its turn.
template <class Elem, int N, int kChunks>
struct Row {
  HeadPiece<Elem, N, kChunks> dy, x;
  int position;
  float rstd;
};
template <int N, int kChunks, class Elem>
__device__ Row<Elem, N, kChunks> load_row(const Backward<Elem>& a, const HeadRange& range,
                                          const HeadCursor& at, const LanePlace& place) {
  Row<Elem, N, kChunks> row{};
  if (!range.holds(at)) return row;
  const std::int64_t t = range.t(at), i = a.c.qkv_at(t, range.j(at));
  row.dy = load_head<N, kChunks>(a.dqkv_TC + i, place);
  row.position = a.c.position_T[t];
  row.rstd = 1.0F;
  if (a.rstd_TJ == nullptr) return row;
  row.x = load_head<N, kChunks>(a.c.qkv_TC + i, place);
  row.rstd = a.rstd_TJ[a.c.rstd_at(t, range.j(at))];
  return row;
}

/// The gradient before the norm of one head from that after it, g = rstd times the gradient turned
/// back; adds to the sums of the weight.
template <class Elem, int N, int kChunks>
__device__ void norm_gradient(HeadPiece<float, N, kChunks>& g, HeadPiece<float, N, kChunks>& sums,
                              const Row<Elem, N, kChunks>& row,
                              const HeadPiece<Elem, N, kChunks>& w, int lanes, int half) {
  float dot = 0.0F;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const Halves<float, N> x = to_floats(row.x.at[c]);
    sums.at[c] = add_product(sums.at[c], g.at[c], x);
    g.at[c] = times(g.at[c], to_floats(w.at[c]));
    dot = add_dot(dot, g.at[c], x);
  }
  const float along = head_sum(dot, lanes) * row.rstd * row.rstd / static_cast<float>(2 * half);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    g.at[c] = add_scaled(g.at[c], to_floats(row.x.at[c]), -along);
  }
}

/// Writes the gradients of a range of heads; what comes back is this lane's share of the weight's.
template <int N, int kChunks, class Elem>
__device__ HeadPiece<float, N, kChunks> backward_heads(const Backward<Elem>& a,
                                                       const HeadRange& range, const Elem* w_d,
                                                       int lanes) {
  const LanePlace place = lane_place<N>(lanes, a.c.half);
  const int groups = kThreads / lanes, group = static_cast<int>(threadIdx.x) / lanes;
  HeadPiece<float, N, kChunks> sums{};
  HeadPiece<Elem, N, kChunks> w{};
  if (w_d != nullptr) w = load_head<N, kChunks>(w_d, place);
  HeadCursor at{group, groups, range.heads};
  Row<Elem, N, kChunks> next = load_row<N, kChunks>(a, range, at, place);
  for (int first = 0; first < range.tokens * range.heads; first += groups) {
    const Row<Elem, N, kChunks> row = next;
    const HeadCursor now = at;
    at.next();
    next = load_row<N, kChunks>(a, range, at, place);
    const auto angles = load_angles<N, kChunks>(a.c, row.position, place);
    HeadPiece<float, N, kChunks> g;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      g.at[c] = rotate(to_floats(row.dy.at[c]), angles.at[c], -1.0F, row.rstd);
    }
    if (w_d != nullptr) norm_gradient(g, sums, row, w, lanes, a.c.half);
    if (!range.holds(now)) continue;
    Elem* dx_d = a.dqkv_TC + a.c.qkv_at(range.t(now), range.j(now));
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
__global__ void __launch_bounds__(kThreads, kChunks == 1 ? kBlocks : 1)
    backward_kernel(Backward<Elem> a, int lanes) {
  const std::int64_t half = a.c.half;
  const std::int64_t token = blockIdx.x, step = gridDim.x;
  const auto tokens = static_cast<int>((a.c.T - token + step - 1) / step);
  const HeadRange queries{token, step, tokens, 0, a.c.heads};
  const HeadRange keys{token, step, tokens, a.c.heads, a.c.groups};
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
                              .rstd_TJ = device_data<float>(a.rstd_TJ)};
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
