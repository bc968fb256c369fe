// SwiGLU. One block a row and column chunk; rows from *rows_limit on leave at once, so that the
// launch never waits for the host to know how many rows are in use.
#include "shoal/ops/swiglu.hpp"

#include "ops/swiglu.cuh"

namespace shoal::ops::cuda {
namespace {

/// Column of this thread's N elements, or -1 when there is nothing to do.
template <int N>
__device__ std::int64_t own_column(const std::int32_t* rows_limit, std::int64_t F) {
  if (rows_limit != nullptr && std::int64_t{blockIdx.x} >= *rows_limit) return -1;
  const std::int64_t f = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  return f < F ? f : -1;
}

template <class Elem, int N>
__global__ void forward_kernel(Elem* h_RF, const Elem* gate_up_RF, const std::int32_t* rows_limit,
                               std::int64_t F) {
  const std::int64_t f = own_column<N>(rows_limit, F);
  if (f < 0) return;
  const Elem* gate_F = gate_up_RF + blockIdx.x * 2 * F;
  const Vec<float, N> gate = load_floats<N>(gate_F + f);
  Vec<float, N> h = load_floats<N>(gate_F + F + f);
#pragma unroll
  for (int i = 0; i < N; ++i) h.v[i] = swiglu(gate.v[i], h.v[i]);
  store_floats(h_RF + blockIdx.x * F + f, h);
}

template <class Elem, int N>
__global__ void backward_kernel(Elem* dgate_up_RF, const Elem* dh_RF, const Elem* gate_up_RF,
                                const std::int32_t* rows_limit, std::int64_t F) {
  const std::int64_t f = own_column<N>(rows_limit, F);
  if (f < 0) return;
  const std::int64_t row = blockIdx.x * 2 * F;
  const Vec<float, N> gate = load_floats<N>(gate_up_RF + row + f);
  const Vec<float, N> up = load_floats<N>(gate_up_RF + row + F + f);
  const Vec<float, N> dh = load_floats<N>(dh_RF + blockIdx.x * F + f);
  Vec<float, N> dgate;
  Vec<float, N> dup;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const SwigluGradient gradient = swiglu_gradient(dh.v[i], gate.v[i], up.v[i]);
    dgate.v[i] = gradient.gate;
    dup.v[i] = gradient.up;
  }
  store_floats(dgate_up_RF + row + f, dgate);
  store_floats(dgate_up_RF + row + F + f, dup);
}

struct Launch {
  dim3 grid;
  unsigned threads;
};
Launch launch_for(std::int64_t rows, std::int64_t vectors) {
  const unsigned threads = threads_for(vectors);
  return {dim3{static_cast<unsigned>(rows), blocks_for(vectors, threads)}, threads};
}

}  // namespace

void swiglu_forward(const Exec& exec, const SwigluForward& a) {
  const std::int64_t F = a.h_RF.dim(1);
  const auto* limit = device_data<std::int32_t>(a.rows_limit);
  with_device_elem(a.h_RF.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    Elem* h = device_data<Elem>(a.h_RF);
    const Elem* gate_up = device_data<Elem>(a.gate_up_RF);
    with_width<Elem>(allows_vectors<Elem>(F, h, gate_up), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const Launch launch = launch_for(a.h_RF.dim(0), ceil_div(F, N));
      forward_kernel<Elem, N>
          <<<launch.grid, launch.threads, 0, exec.cuda().stream>>>(h, gate_up, limit, F);
    });
  });
  check_launch();
}

void swiglu_backward(const Exec& exec, const SwigluBackward& a) {
  const std::int64_t F = a.dh_RF.dim(1);
  const auto* limit = device_data<std::int32_t>(a.rows_limit);
  with_device_elem(a.dh_RF.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    Elem* dgate_up = device_data<Elem>(a.dgate_up_RF);
    const Elem* dh = device_data<Elem>(a.dh_RF);
    const Elem* gate_up = device_data<Elem>(a.gate_up_RF);
    with_width<Elem>(allows_vectors<Elem>(F, dgate_up, dh, gate_up), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const Launch launch = launch_for(a.dh_RF.dim(0), ceil_div(F, N));
      backward_kernel<Elem, N>
          <<<launch.grid, launch.threads, 0, exec.cuda().stream>>>(dgate_up, dh, gate_up, limit, F);
    });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
