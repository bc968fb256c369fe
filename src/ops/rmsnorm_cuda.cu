// RMSNorm: y_td = x_td * rstd_t * w_d. One block a token; each thread takes N neighbouring elements
// at a time, the same ones in every pass, so that it finds its own stores and warm cache lines.
#include "ops/cuda_common.cuh"
#include "ops/partials.hpp"
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

template <class Elem>
struct InputRows {
  Elem* dx_TD;
  const Elem* dy_TD;
  const Elem* x_TD;
  const Elem* w_D;
  const float* rstd_T;
  const Elem* add_TD;  ///< may be null
  std::int64_t D;
};

template <class Elem, int N>
__global__ void backward_input_kernel(InputRows<Elem> a) {
  const std::int64_t row = blockIdx.x * a.D;
  const std::int64_t first = std::int64_t{threadIdx.x} * N;
  const std::int64_t step = std::int64_t{blockDim.x} * N;
  float dot = 0.0F;
  for (std::int64_t d = first; d < a.D; d += step) {
    const Vec<float, N> dy = load_floats<N>(a.dy_TD + row + d);
    const Vec<float, N> w = load_floats<N>(a.w_D + d);
    const Vec<float, N> x = load_floats<N>(a.x_TD + row + d);
#pragma unroll
    for (int i = 0; i < N; ++i) dot += dy.v[i] * w.v[i] * x.v[i];
  }
  const float rstd = a.rstd_T[blockIdx.x];
  const float along = block_sum(dot) * rstd * rstd / static_cast<float>(a.D);
  for (std::int64_t d = first; d < a.D; d += step) {
    const Vec<float, N> dy = load_floats<N>(a.dy_TD + row + d);
    const Vec<float, N> w = load_floats<N>(a.w_D + d);
    const Vec<float, N> x = load_floats<N>(a.x_TD + row + d);
    Vec<float, N> dx{};
    if (a.add_TD != nullptr) dx = load_floats<N>(a.add_TD + row + d);
#pragma unroll
    for (int i = 0; i < N; ++i) dx.v[i] += rstd * (dy.v[i] * w.v[i] - x.v[i] * along);
    store_floats(a.dx_TD + row + d, dx);
  }
}

template <class Elem>
struct WeightRows {
  float* part_PD;
  const Elem* dy_TD;
  const Elem* x_TD;
  const float* rstd_T;
  std::int64_t T, D, rows_per_part;
};

/// Block (c, p): N columns a thread, the rows of part p in order.
template <class Elem, int N>
__global__ void backward_weight_kernel(WeightRows<Elem> a) {
  const std::int64_t d = thread_index() * N;
  if (d >= a.D) return;
  const std::int64_t begin = blockIdx.y * a.rows_per_part;
  const std::int64_t end = min(a.T, begin + a.rows_per_part);
  Vec<float, N> sum{};
#pragma unroll 4
  for (std::int64_t t = begin; t < end; ++t) {
    const Vec<float, N> dy = load_floats<N>(a.dy_TD + t * a.D + d);
    const Vec<float, N> x = load_floats<N>(a.x_TD + t * a.D + d);
    const float rstd = a.rstd_T[t];
#pragma unroll
    for (int i = 0; i < N; ++i) sum.v[i] += dy.v[i] * x.v[i] * rstd;
  }
  store_vec(a.part_PD + blockIdx.y * a.D + d, sum);
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

void rmsnorm_backward_input(const Exec& exec, const RmsNormBackwardInput& a) {
  const auto T = static_cast<unsigned>(a.x_TD.dim(0));
  const std::int64_t D = a.x_TD.dim(1);
  with_device_elem(a.x_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const InputRows<Elem> rows{.dx_TD = device_data<Elem>(a.dx_TD),
                               .dy_TD = device_data<Elem>(a.dy_TD),
                               .x_TD = device_data<Elem>(a.x_TD),
                               .w_D = device_data<Elem>(a.w_D),
                               .rstd_T = a.rstd_T.data<float>(),
                               .add_TD = device_data<Elem>(a.add_TD),
                               .D = D};
    const bool vectors =
        allows_vectors<Elem>(D, rows.dx_TD, rows.dy_TD, rows.x_TD, rows.w_D, rows.add_TD);
    with_width<Elem>(vectors, [&](auto width) {
      constexpr int N = decltype(width)::value;
      backward_input_kernel<Elem, N>
          <<<T, threads_for(ceil_div(D, N)), 0, exec.cuda().stream>>>(rows);
    });
  });
  check_launch();
}

void rmsnorm_backward_weight(const Exec& exec, const RmsNormBackwardWeight& a,
                             const TensorView& part_PD) {
  const std::int64_t T = a.x_TD.dim(0);
  const std::int64_t D = a.x_TD.dim(1);
  with_device_elem(a.x_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const WeightRows<Elem> rows{.part_PD = part_PD.data<float>(),
                                .dy_TD = device_data<Elem>(a.dy_TD),
                                .x_TD = device_data<Elem>(a.x_TD),
                                .rstd_T = a.rstd_T.data<float>(),
                                .T = T,
                                .D = D,
                                .rows_per_part = part_size(T)};
    if (T == 0) return;
    with_width<Elem>(allows_vectors<Elem>(D, rows.part_PD, rows.dy_TD, rows.x_TD), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const unsigned threads = threads_for(ceil_div(D, N), 128);
      const dim3 grid{blocks_for(ceil_div(D, N), threads), static_cast<unsigned>(part_PD.dim(0))};
      backward_weight_kernel<Elem, N><<<grid, threads, 0, exec.cuda().stream>>>(rows);
    });
  });
  check_launch();
  sum_parts(exec, a.dw_D, part_PD, a.accumulate);
}

}  // namespace shoal::ops::cuda
