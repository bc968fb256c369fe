// Per-head RMSNorm and rotary embedding, forward. Each group of lanes takes a few heads one after
// the other; the next one is on its way meanwhile.
#include "ops/qk_norm_rope.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 3;  // of a multiprocessor: a fourth leaves too few registers and is slower
constexpr int kRows = 8;    // heads that a group of lanes takes one after the other

template <class Elem>
struct Forward {
  HeadsCommon<Elem> c;
  Elem* qk_TC;
  float* rstd_TJ;
  std::int64_t qk_columns;
  float eps;
};

/// What a lane reads of one head ahead of its turn.
template <class Elem, int N, int kChunks>
struct Row {
  HeadPiece<Elem, N, kChunks> x;
  int position;
};
template <int N, int kChunks, class Elem>
__device__ Row<Elem, N, kChunks> load_row(const HeadsCommon<Elem>& c, const HeadCursor& at,
                                          const LanePlace& place) {
  Row<Elem, N, kChunks> row{};
  if (at.token >= c.T) return row;
  row.x = load_head<N, kChunks>(c.qkv_TC + c.qkv_at(at.token, at.head), place);
  row.position = c.position_T[at.token];
  return row;
}

template <class Elem, int N, int kChunks>
__global__ void __launch_bounds__(kThreads, kChunks == 1 ? kBlocks : 1)
    forward_kernel(Forward<Elem> a, int lanes) {
  const int J = a.c.heads + a.c.groups, half = a.c.half;
  const LanePlace place = lane_place<N>(lanes, half);
  const int groups = kThreads / lanes, group = static_cast<int>(threadIdx.x) / lanes;
  HeadCursor at{static_cast<int>(blockIdx.x) * groups * kRows + group, groups, J};
  Row<Elem, N, kChunks> next = load_row<N, kChunks>(a.c, at, place);
  for (int turn = 0; turn < kRows; ++turn) {
    const Row<Elem, N, kChunks> row = next;
    const HeadCursor now = at;
    at.next();
    if (turn + 1 < kRows) next = load_row<N, kChunks>(a.c, at, place);
    const bool valid = now.token < a.c.T;  // lanes beyond the last head help to sum
    const Elem* w_d = now.head < a.c.heads ? a.c.q_weight_d : a.c.k_weight_d;
    HeadPiece<Elem, N, kChunks> w{};
    const auto angles = load_angles<N, kChunks>(a.c, row.position, place);
    float rstd = 1.0F;
    if (w_d != nullptr) {  // the same for all heads
      w = load_head<N, kChunks>(w_d, place);
      float square = 0.0F;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        square = add_dot(square, to_floats(row.x.at[c]), to_floats(row.x.at[c]));
      }
      rstd = rsqrtf(head_sum(square, lanes) / static_cast<float>(2 * half) + a.eps);
      if (valid && place.first == 0) a.rstd_TJ[a.c.rstd_at(now.token, now.head)] = rstd;
    }
    Elem* y_d = a.qk_TC + now.token * a.qk_columns + std::int64_t{now.head} * 2 * half;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (!valid || !place.has(c)) continue;
      Halves<float, N> y = to_floats(row.x.at[c]);
      if (w_d != nullptr) y = times(y, to_floats(w.at[c]));
      store_halves(y_d, place, c, rotate(y, angles.at[c], 1.0F, rstd));
    }
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
      const int lanes = Split::lanes(args.c.half);
      const std::int64_t rows = args.c.T * (args.c.heads + args.c.groups);
      forward_kernel<Elem, Split::kWidth, Split::kTimes>
          <<<blocks_for(rows, kThreads / lanes * kRows), kThreads, 0, exec.cuda().stream>>>(args,
                                                                                            lanes);
    };
    with_head_split<Elem>(args.c.half, launch, args.c.qkv_TC, args.c.cos_PC, args.c.sin_PC,
                          args.qk_TC, args.c.q_weight_d, args.c.k_weight_d);
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
