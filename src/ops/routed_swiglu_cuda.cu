// Backward of SwiGLU with the routing weight of each row. One warp a row, so that the row's dot
// product needs no block; rows from *rows_limit on leave at once.
#include "shoal/ops/routed_swiglu.hpp"

#include "ops/swiglu.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

template <class Elem>
struct Rows {
  Elem* dgate_up_RF;
  Elem* h_RF;  // may be dh: each element is read before the same thread writes it
  float* dweight_R;
  const Elem* dh_RF;
  const Elem* gate_up_RF;
  const float* weight_R;
  const std::int32_t* rows_limit;
  std::int64_t R, F;
};

/// N neighbouring columns of one row; returns their part of <dh, h>.
template <int N, class Elem>
__device__ float backward_columns(const Rows<Elem>& a, std::int64_t row, float weight,
                                  std::int64_t f) {
  const Elem* gate_F = a.gate_up_RF + row * 2 * a.F;
  Elem* dgate_F = a.dgate_up_RF + row * 2 * a.F;
  Vec<float, N> gate = load_floats<N>(gate_F + f);
  Vec<float, N> up = load_floats<N>(gate_F + a.F + f);
  Vec<float, N> dh = load_floats<N>(a.dh_RF + row * a.F + f);
  float dot = 0.0F;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float h = swiglu(gate.v[i], up.v[i]);
    const SwigluGradient gradient = swiglu_gradient(weight * dh.v[i], gate.v[i], up.v[i]);
    dot = fmaf(dh.v[i], h, dot);
    gate.v[i] = gradient.gate;
    up.v[i] = gradient.up;
    dh.v[i] = weight * h;
  }
  store_floats(dgate_F + f, gate);
  store_floats(dgate_F + a.F + f, up);
  store_floats(a.h_RF + row * a.F + f, dh);
  return dot;
}

template <class Elem, int N>
__global__ void __launch_bounds__(kThreads) backward_kernel(Rows<Elem> a) {
  const std::int64_t row = thread_index() / kWarpSize;
  if (row >= a.R || (a.rows_limit != nullptr && row >= *a.rows_limit)) return;
  const int lane = threadIdx.x % kWarpSize;
  const float weight = a.weight_R[row];
  float dot = 0.0F;
#pragma unroll 2
  for (std::int64_t f = lane * N; f < a.F; f += kWarpSize * N) {
    dot += backward_columns<N>(a, row, weight, f);
  }
  dot = warp_sum(dot);
  if (lane == 0) a.dweight_R[row] = dot;
}

}  // namespace

void routed_swiglu_backward(const Exec& exec, const RoutedSwigluBackward& a) {
  with_device_elem(a.dh_RF.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Rows<Elem> rows{.dgate_up_RF = device_data<Elem>(a.dgate_up_RF),
                          .h_RF = device_data<Elem>(a.h_RF),
                          .dweight_R = device_data<float>(a.dweight_R),
                          .dh_RF = device_data<Elem>(a.dh_RF),
                          .gate_up_RF = device_data<Elem>(a.gate_up_RF),
                          .weight_R = device_data<float>(a.weight_R),
                          .rows_limit = device_data<std::int32_t>(a.rows_limit),
                          .R = a.dh_RF.dim(0),
                          .F = a.dh_RF.dim(1)};
    const bool vectors =
        allows_vectors<Elem>(rows.F, rows.dgate_up_RF, rows.h_RF, rows.dh_RF, rows.gate_up_RF);
    with_width<Elem>(vectors, [&](auto width) {
      backward_kernel<Elem, width.value>
          <<<blocks_for(rows.R, kWarps), kThreads, 0, exec.cuda().stream>>>(rows);
    });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
