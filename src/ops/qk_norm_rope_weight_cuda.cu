// Weight gradients of the per-head norms: two-stage sums over tokens.
#include "ops/partials.hpp"
#include "ops/qk_norm_rope.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kWarps = 8;  // of a block
constexpr dim3 kBlock{kWarpSize, kWarps};

template <class Elem>
struct BackwardWeight {
  HeadsCommon<Elem> c;
  float* part_q_Pd;
  float* part_k_Pd;
  const Elem* dqk_TC;
  const float* rstd_TJ;
  std::int64_t rows_per_part;
};

/// Block (p, 0) sums the queries of part p, block (p, 1) its keys. Each warp takes every kWarps-th
/// (token, head); then the warps' sums are added in order.
template <class Elem>
__global__ void backward_weight_kernel(BackwardWeight<Elem> a) {
  __shared__ Halves<1> partial[kWarps][kWarpSize];
  const bool queries = blockIdx.y == 0;
  const int heads = queries ? a.c.heads : a.c.groups;
  const int first_head = queries ? 0 : a.c.heads;
  const int half = a.c.half;
  const std::int64_t begin = blockIdx.x * a.rows_per_part;
  const std::int64_t tokens = max(std::int64_t{0}, min(a.c.T - begin, a.rows_per_part));
  float* part_d = (queries ? a.part_q_Pd : a.part_k_Pd) + blockIdx.x * 2 * half;
  for (int chunk = 0; chunk < half; chunk += kWarpSize) {
    const int i = chunk + static_cast<int>(threadIdx.x);
    Halves<1> sum{};
    for (int row = static_cast<int>(threadIdx.y); i < half && row < tokens * heads; row += kWarps) {
      const HeadIndex h = a.c.head(begin + row / heads, first_head + row % heads);
      const Halves<1> g = rotate(load_halves<1>(a.dqk_TC + a.c.qk_at(h), i, half), h, i, -1.0F);
      const Halves<1> x = load_halves<1>(a.c.qkv_TC + a.c.qkv_at(h), i, half);
      const float rstd = a.rstd_TJ[a.c.rstd_at(h)];
      sum.a.v[0] += g.a.v[0] * x.a.v[0] * rstd;
      sum.b.v[0] += g.b.v[0] * x.b.v[0] * rstd;
    }
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && i < half) {
      for (int warp = 1; warp < kWarps; ++warp) {
        sum.a.v[0] += partial[warp][threadIdx.x].a.v[0];
        sum.b.v[0] += partial[warp][threadIdx.x].b.v[0];
      }
      store_halves(part_d, i, half, sum);
    }
    __syncthreads();  // `partial` is free for the next chunk
  }
}

}  // namespace

void qk_norm_rope_backward_weight(const Exec& exec, const QkNormRopeBackwardWeight& a,
                                  const TensorView& part_q_Pd, const TensorView& part_k_Pd) {
  const std::int64_t T = a.position_T.dim(0);
  if (T > 0) {
    with_device_elem(a.qkv_TC.dtype(), [&](auto elem) {
      using Elem = decltype(elem);
      const BackwardWeight<Elem> args{.c = common_of<Elem>(a),
                                      .part_q_Pd = part_q_Pd.data<float>(),
                                      .part_k_Pd = part_k_Pd.data<float>(),
                                      .dqk_TC = device_data<Elem>(a.dqk_TC),
                                      .rstd_TJ = a.rstd_TJ.data<float>(),
                                      .rows_per_part = part_size(T)};
      const dim3 grid{static_cast<unsigned>(part_q_Pd.dim(0)), 2};
      backward_weight_kernel<<<grid, kBlock, 0, exec.cuda().stream>>>(args);
    });
    check_launch();
  }
  sum_parts(exec, a.dq_weight_d, part_q_Pd, a.accumulate);
  sum_parts(exec, a.dk_weight_d, part_k_Pd, a.accumulate);
}

}  // namespace shoal::ops::cuda
