// The backward pass of RMSNorm: dx_td = add_td + rstd_t (dy_td w_d - x_td along_t) with along_t =
// rstd_t^2 / D <dy_t w, x_t>, and the parts of dw_d = sum over t of dy_td x_td rstd_t.
//
// Block p of P goes through the rows p, p + P, ..., blockDim.y of them at a time, so that
// neighbouring blocks read neighbouring rows. A thread keeps the same N columns: its row's elements
// stay in registers from the dot product to the result, those of the next row are on their way
// meanwhile, and its share of dw never leaves the registers before the end.
#include "ops/cuda_common.cuh"
#include "shoal/ops/partials.hpp"
#include "shoal/ops/rmsnorm.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kMaxThreads = 1024;  // of a row
constexpr int kThreads = 256;      // of a block whose rows are shorter

template <class Elem>
struct Rows {
  Elem* dx_TD;
  float* part_PD;
  const Elem* dy_TD;
  const Elem* x_TD;
  const Elem* w_D;
  const float* rstd_T;
  const Elem* add_TD;  ///< may be null
  std::int64_t T, D, rows_per_part;
};

/// Sum over the warps of one row of the block, the same for all its threads. `turn` alternates
/// between calls, so that a sum is read before the next but one is written.
__device__ float row_sum(float x, int turn) {
  __shared__ float partial[2][kWarpSize];
  const unsigned warps = blockDim.x / kWarpSize, first = threadIdx.y * warps;
  const unsigned lane = threadIdx.x % kWarpSize;
  x = warp_sum(x);
  if (lane == 0) partial[turn][first + threadIdx.x / kWarpSize] = x;
  __syncthreads();
  return warp_sum(lane < warps ? partial[turn][first + lane] : 0.0F);
}

/// One thread's elements of a row; zeros beyond the rows and columns.
template <class Elem, int N>
struct RowPiece {
  Vec<Elem, N> dy, x, add;
  float rstd;
};
template <int N, class Elem>
__device__ RowPiece<Elem, N> load_piece(const Rows<Elem>& a, std::int64_t t, std::int64_t end,
                                        std::int64_t d) {
  RowPiece<Elem, N> piece{};
  if (t >= end || d >= a.D) return piece;
  piece.dy = load_vec<N>(a.dy_TD + t * a.D + d);
  piece.x = load_vec<N>(a.x_TD + t * a.D + d);
  if (a.add_TD != nullptr) piece.add = load_vec<N>(a.add_TD + t * a.D + d);
  piece.rstd = a.rstd_T[t];
  return piece;
}

/// Adds the sums of the block's rows in order and stores the part.
template <int N>
__device__ void store_part(float* part_D, Vec<float, N> sum, std::int64_t d, std::int64_t D) {
  extern __shared__ __align__(16) float sums[];  // [blockDim.y - 1, D]
  if (threadIdx.y > 0 && d < D) store_vec(sums + (threadIdx.y - 1) * D + d, sum);
  __syncthreads();
  if (threadIdx.y > 0 || d >= D) return;
  for (unsigned row = 1; row < blockDim.y; ++row) {
    const Vec<float, N> other = load_vec<N>(sums + (row - 1) * D + d);
#pragma unroll
    for (int i = 0; i < N; ++i) sum.v[i] += other.v[i];
  }
  store_vec(part_D + d, sum);
}

template <class Elem, int N>
__global__ void __launch_bounds__(kMaxThreads) backward_kernel(Rows<Elem> a) {
  const std::int64_t d = std::int64_t{threadIdx.x} * N;
  const std::int64_t begin = blockIdx.x, end = a.T, step = gridDim.x;
  Vec<float, N> w{}, sum{};
  if (d < a.D) w = load_floats<N>(a.w_D + d);
  RowPiece<Elem, N> next = load_piece<N>(a, begin + threadIdx.y * step, end, d);
  int turn = 0;
  for (std::int64_t base = begin; base < end; base += blockDim.y * step) {
    const RowPiece<Elem, N> row = next;
    const std::int64_t t = base + threadIdx.y * step;
    next = load_piece<N>(a, t + blockDim.y * step, end, d);
    const Vec<float, N> dy = to_floats(row.dy), x = to_floats(row.x);
    float dot = 0.0F;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      dot += dy.v[i] * w.v[i] * x.v[i];
      sum.v[i] += dy.v[i] * x.v[i] * row.rstd;
    }
    const float along = row_sum(dot, turn) * row.rstd * row.rstd / static_cast<float>(a.D);
    turn ^= 1;
    if (t >= end || d >= a.D) continue;
    Vec<float, N> dx = to_floats(row.add);
#pragma unroll
    for (int i = 0; i < N; ++i) dx.v[i] += row.rstd * (dy.v[i] * w.v[i] - x.v[i] * along);
    store_floats(a.dx_TD + t * a.D + d, dx);
  }
  store_part(a.part_PD + blockIdx.x * a.D, sum, d, a.D);
}

/// For rows that are wider than a block: their elements are read again for the result, and the part
/// grows in memory.
template <class Elem>
__global__ void __launch_bounds__(kMaxThreads) wide_backward_kernel(Rows<Elem> a) {
  const std::int64_t begin = blockIdx.x * a.rows_per_part;
  const std::int64_t end = min(a.T, begin + a.rows_per_part);
  float* part_D = a.part_PD + blockIdx.x * a.D;
  for (std::int64_t d = threadIdx.x; d < a.D; d += blockDim.x) part_D[d] = 0.0F;
  for (std::int64_t t = begin; t < end; ++t) {
    const Elem* dy_D = a.dy_TD + t * a.D;
    const Elem* x_D = a.x_TD + t * a.D;
    const float rstd = a.rstd_T[t];
    float dot = 0.0F;
    for (std::int64_t d = threadIdx.x; d < a.D; d += blockDim.x) {
      dot += to_float(dy_D[d]) * to_float(a.w_D[d]) * to_float(x_D[d]);
    }
    const float along = block_sum(dot) * rstd * rstd / static_cast<float>(a.D);
    for (std::int64_t d = threadIdx.x; d < a.D; d += blockDim.x) {
      const float dy = to_float(dy_D[d]), x = to_float(x_D[d]);
      const float add = a.add_TD == nullptr ? 0.0F : to_float(a.add_TD[t * a.D + d]);
      part_D[d] += dy * x * rstd;
      a.dx_TD[t * a.D + d] = from_float<Elem>(add + rstd * (dy * to_float(a.w_D[d]) - x * along));
    }
  }
}

template <class Elem, int N>
void launch(const Exec& exec, const Rows<Elem>& rows, unsigned parts) {
  const std::int64_t pieces = ceil_div(rows.D, N);
  if (pieces > kMaxThreads) {
    wide_backward_kernel<<<parts, kMaxThreads, 0, exec.cuda().stream>>>(rows);
    return;
  }
  const unsigned threads = threads_for(pieces, kMaxThreads);
  const unsigned together = std::max(1U, kThreads / threads);
  const auto shared = static_cast<std::size_t>((together - 1) * rows.D) * sizeof(float);
  backward_kernel<Elem, N><<<parts, dim3{threads, together}, shared, exec.cuda().stream>>>(rows);
}

}  // namespace

void rmsnorm_backward(const Exec& exec, const RmsNormBackward& a) {
  const std::int64_t T = a.x_TD.dim(0);
  const std::int64_t D = a.x_TD.dim(1);
  with_device_elem(a.x_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Rows<Elem> rows{.dx_TD = device_data<Elem>(a.dx_TD),
                          .part_PD = a.part_PD.data<float>(),
                          .dy_TD = device_data<Elem>(a.dy_TD),
                          .x_TD = device_data<Elem>(a.x_TD),
                          .w_D = device_data<Elem>(a.w_D),
                          .rstd_T = a.rstd_T.data<float>(),
                          .add_TD = device_data<Elem>(a.add_TD),
                          .T = T,
                          .D = D,
                          .rows_per_part = part_size(T)};
    const bool vectors = allows_vectors<Elem>(D, rows.dx_TD, rows.part_PD, rows.dy_TD, rows.x_TD,
                                              rows.w_D, rows.add_TD);
    with_width<Elem>(vectors, [&](auto width) {
      launch<Elem, decltype(width)::value>(exec, rows, static_cast<unsigned>(a.part_PD.dim(0)));
    });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
