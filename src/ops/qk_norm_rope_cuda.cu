// Per-head RMSNorm and rotary embedding. One warp a head of one token; a lane takes N neighbouring
// elements of the first half and the N they are rotated with in the second.
#include "ops/qk_norm_rope.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kWarps = 8;     // of a block
constexpr int kMaxWidth = 2;  // 32 lanes of two cover the half of a head of 128
constexpr dim3 kBlock{kWarpSize, kWarps};

template <class Elem>
unsigned blocks_of(const HeadsCommon<Elem>& c) {
  return blocks_for(c.T * (c.heads + c.groups), kWarps);
}

/// Index of this warp among all (t, j); blocks are (lanes, warps).
__device__ std::int64_t warp_index() {
  return std::int64_t{blockIdx.x} * kWarps + threadIdx.y;
}

template <class Elem>
struct Forward {
  HeadsCommon<Elem> c;
  Elem* qk_TC;
  float* rstd_TJ;
  const Elem* q_weight_d;  ///< null: no norm
  const Elem* k_weight_d;
  float eps;
};

template <class Elem, int N>
__global__ void forward_kernel(Forward<Elem> a) {
  const std::int64_t index = warp_index();
  const int J = a.c.heads + a.c.groups;
  if (index >= a.c.T * J) return;  // uniform over the warp
  const HeadIndex h = a.c.head(index / J, static_cast<int>(index % J));
  const int half = a.c.half;
  const int first = static_cast<int>(threadIdx.x) * N;
  const Elem* x_d = a.c.qkv_TC + a.c.qkv_at(h);
  const Elem* w_d = h.is_query ? a.q_weight_d : a.k_weight_d;
  float rstd = 1.0F;
  if (w_d != nullptr) {
    float square = 0.0F;
    for (int i = first; i < half; i += kWarpSize * N) {
      const Halves<N> x = load_halves<N>(x_d, i, half);
      square += total(times(x, x));
    }
    rstd = 1.0F / sqrtf(warp_sum(square) / static_cast<float>(2 * half) + a.eps);
    if (threadIdx.x == 0) a.rstd_TJ[a.c.rstd_at(h)] = rstd;
  }
  for (int i = first; i < half; i += kWarpSize * N) {
    Halves<N> x = load_halves<N>(x_d, i, half);
    if (w_d != nullptr) x = times(x, load_halves<N>(w_d, i, half));
    Halves<N> y = rotate(x, h, i, 1.0F);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      y.a.v[k] *= rstd;
      y.b.v[k] *= rstd;
    }
    store_halves(a.qk_TC + a.c.qk_at(h), i, half, y);
  }
}

template <class Elem>
struct BackwardInput {
  HeadsCommon<Elem> c;
  Elem* dqkv_TC;
  const Elem* dqk_TC;
  const float* rstd_TJ;
  const Elem* q_weight_d;  ///< null: no norm
  const Elem* k_weight_d;
};

template <class Elem, int N>
__global__ void backward_input_kernel(BackwardInput<Elem> a) {
  const std::int64_t index = warp_index();
  const int J = a.c.heads + a.c.groups;
  if (index >= a.c.T * J) return;
  const HeadIndex h = a.c.head(index / J, static_cast<int>(index % J));
  const int half = a.c.half;
  const int first = static_cast<int>(threadIdx.x) * N;
  const Elem* x_d = a.c.qkv_TC + a.c.qkv_at(h);
  const Elem* dy_d = a.dqk_TC + a.c.qk_at(h);
  const Elem* w_d = h.is_query ? a.q_weight_d : a.k_weight_d;
  float rstd = 1.0F;
  float along = 0.0F;
  if (w_d != nullptr) {
    float dot = 0.0F;
    for (int i = first; i < half; i += kWarpSize * N) {
      const Halves<N> g = rotate(load_halves<N>(dy_d, i, half), h, i, -1.0F);
      const Halves<N> wx = times(load_halves<N>(w_d, i, half), load_halves<N>(x_d, i, half));
      dot += total(times(g, wx));
    }
    rstd = a.rstd_TJ[a.c.rstd_at(h)];
    along = warp_sum(dot) * rstd * rstd / static_cast<float>(2 * half);
  }
  for (int i = first; i < half; i += kWarpSize * N) {
    Halves<N> g = rotate(load_halves<N>(dy_d, i, half), h, i, -1.0F);
    if (w_d != nullptr) {
      const Halves<N> x = load_halves<N>(x_d, i, half);
      g = times(g, load_halves<N>(w_d, i, half));
#pragma unroll
      for (int k = 0; k < N; ++k) {
        g.a.v[k] = rstd * (g.a.v[k] - x.a.v[k] * along);
        g.b.v[k] = rstd * (g.b.v[k] - x.b.v[k] * along);
      }
    }
    store_halves(a.dqkv_TC + a.c.qkv_at(h), i, half, g);
  }
}

}  // namespace

void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& a) {
  with_device_elem(a.qkv_TC.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Forward<Elem> args{.c = common_of<Elem>(a),
                             .qk_TC = device_data<Elem>(a.qk_TC),
                             .rstd_TJ = device_data<float>(a.rstd_TJ),
                             .q_weight_d = device_data<Elem>(a.q_weight_d),
                             .k_weight_d = device_data<Elem>(a.k_weight_d),
                             .eps = a.eps};
    const bool pairs =
        allows_vectors<Elem, kMaxWidth>(args.c.half, args.c.qkv_TC, args.c.cos_PC, args.c.sin_PC,
                                        args.qk_TC, args.q_weight_d, args.k_weight_d);
    const auto kernel = pairs ? forward_kernel<Elem, kMaxWidth> : forward_kernel<Elem, 1>;
    kernel<<<blocks_of(args.c), kBlock, 0, exec.cuda().stream>>>(args);
  });
  check_launch();
}

void qk_norm_rope_backward_input(const Exec& exec, const QkNormRopeBackwardInput& a) {
  with_device_elem(a.qkv_TC.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const BackwardInput<Elem> args{.c = common_of<Elem>(a),
                                   .dqkv_TC = device_data<Elem>(a.dqkv_TC),
                                   .dqk_TC = device_data<Elem>(a.dqk_TC),
                                   .rstd_TJ = device_data<float>(a.rstd_TJ),
                                   .q_weight_d = device_data<Elem>(a.q_weight_d),
                                   .k_weight_d = device_data<Elem>(a.k_weight_d)};
    const bool pairs = allows_vectors<Elem, kMaxWidth>(args.c.half, args.c.qkv_TC, args.c.cos_PC,
                                                       args.c.sin_PC, args.dqkv_TC, args.dqk_TC,
                                                       args.q_weight_d, args.k_weight_d);
    const auto kernel =
        pairs ? backward_input_kernel<Elem, kMaxWidth> : backward_input_kernel<Elem, 1>;
    kernel<<<blocks_of(args.c), kBlock, 0, exec.cuda().stream>>>(args);
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
