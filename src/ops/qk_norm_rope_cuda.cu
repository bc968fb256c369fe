// Per-head RMSNorm and rotary embedding, forward: one head of one token for each group of lanes.
#include "ops/qk_norm_rope.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

template <class Elem>
struct Forward {
  HeadsCommon<Elem> c;
  Elem* qk_TC;
  float* rstd_TJ;
  std::int64_t qk_columns;
  float eps;
};

template <class Elem, int N, int kChunks>
__global__ void __launch_bounds__(kThreads) forward_kernel(Forward<Elem> a, int lanes) {
  const int J = a.c.heads + a.c.groups, half = a.c.half;
  const LanePlace place = lane_place<N>(lanes, half);
  const unsigned row = (blockIdx.x * kThreads + threadIdx.x) / static_cast<unsigned>(lanes);
  const bool valid = row < a.c.T * J;  // lanes beyond the last head help to sum
  const std::int64_t t = valid ? row / J : 0;
  const int j = static_cast<int>(valid ? row % J : 0);
  const Elem* w_d = j < a.c.heads ? a.c.q_weight_d : a.c.k_weight_d;
  const auto x = load_head<N, kChunks>(a.c.qkv_TC + a.c.qkv_at(t, j), place);
  const auto angles = load_angles<N, kChunks>(a.c, t, place);
  HeadPiece<Elem, N, kChunks> w{};
  float rstd = 1.0F;
  if (w_d != nullptr) {  // the same for all heads
    w = load_head<N, kChunks>(w_d, place);
    float square = 0.0F;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const Halves<float, N> part = to_floats(x.at[c]);
      square += total(times(part, part));
    }
    rstd = 1.0F / sqrtf(head_sum(square, lanes) / static_cast<float>(2 * half) + a.eps);
    if (valid && place.first == 0) a.rstd_TJ[a.c.rstd_at(t, j)] = rstd;
  }
  Elem* y_d = a.qk_TC + t * a.qk_columns + std::int64_t{j} * 2 * half;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (!valid || !place.has(c)) continue;
    Halves<float, N> y = to_floats(x.at[c]);
    if (w_d != nullptr) y = times(y, to_floats(w.at[c]));
    y = rotate(y, angles.at[c], 1.0F);
    store_halves(y_d, place, c, plus({}, y, rstd));
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
          <<<blocks_for(rows, kThreads / lanes), kThreads, 0, exec.cuda().stream>>>(args, lanes);
    };
    with_head_split<Elem>(args.c.half, launch, args.c.qkv_TC, args.c.cos_PC, args.c.sin_PC,
                          args.qk_TC, args.c.q_weight_d, args.c.k_weight_d);
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
