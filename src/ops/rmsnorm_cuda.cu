// RMSNorm: y_td = x_td * rstd_t * w_d. One block a token; each thread takes N neighbouring elements
// at a time, the same ones in every pass, so that it finds its own stores and warm cache lines.
#include "ops/cuda_common.cuh"
#include "shoal/ops/rmsnorm.hpp"

namespace shoal::ops::cuda {
namespace {

template <class Elem>
struct ForwardRows {
  Elem* y_TD;
  float* rstd_T;
  Elem* sum_TD;
  const Elem* x_TD;
  const Elem* add_TD;  ///< may be null
  const Elem* w_D;
  std::int64_t D;
  float eps;
};

template <class Elem, int N>
__global__ void forward_kernel(ForwardRows<Elem> a) {
  const std::int64_t row = blockIdx.x * a.D;
  const std::int64_t first = std::int64_t{threadIdx.x} * N;
  const std::int64_t step = std::int64_t{blockDim.x} * N;
  const Elem* source_D = (a.add_TD == nullptr ? a.x_TD : a.sum_TD) + row;
  float square = 0.0F;
  for (std::int64_t d = first; d < a.D; d += step) {
    if (a.add_TD != nullptr) {
      Vec<float, N> sum = load_floats<N>(a.x_TD + row + d);
      const Vec<float, N> added = load_floats<N>(a.add_TD + row + d);
#pragma unroll
      for (int i = 0; i < N; ++i) sum.v[i] += added.v[i];
      store_floats(a.sum_TD + row + d, sum);
    }
    const Vec<float, N> x = load_floats<N>(source_D + d);  // rounded: what backward will read
#pragma unroll
    for (int i = 0; i < N; ++i) square += x.v[i] * x.v[i];
  }
  const float rstd = 1.0F / sqrtf(block_sum(square) / static_cast<float>(a.D) + a.eps);
  if (threadIdx.x == 0) a.rstd_T[blockIdx.x] = rstd;
  for (std::int64_t d = first; d < a.D; d += step) {
    Vec<float, N> x = load_floats<N>(source_D + d);
    const Vec<float, N> w = load_floats<N>(a.w_D + d);
#pragma unroll
    for (int i = 0; i < N; ++i) x.v[i] *= rstd * w.v[i];
    store_floats(a.y_TD + row + d, x);
  }
}

}  // namespace

void rmsnorm_forward(const Exec& exec, const RmsNormForward& a) {
  const auto T = static_cast<unsigned>(a.x_TD.dim(0));
  const std::int64_t D = a.x_TD.dim(1);
  with_device_elem(a.x_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const ForwardRows<Elem> rows{.y_TD = device_data<Elem>(a.y_TD),
                                 .rstd_T = a.rstd_T.data<float>(),
                                 .sum_TD = device_data<Elem>(a.sum_TD),
                                 .x_TD = device_data<Elem>(a.x_TD),
                                 .add_TD = device_data<Elem>(a.add_TD),
                                 .w_D = device_data<Elem>(a.w_D),
                                 .D = D,
                                 .eps = a.eps};
    const bool vectors =
        allows_vectors<Elem>(D, rows.y_TD, rows.sum_TD, rows.x_TD, rows.add_TD, rows.w_D);
    with_width<Elem>(vectors, [&](auto width) {
      constexpr int N = decltype(width)::value;
      forward_kernel<Elem, N><<<T, threads_for(ceil_div(D, N)), 0, exec.cuda().stream>>>(rows);
    });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
