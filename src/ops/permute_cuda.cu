#include "ops/cuda_common.cuh"
#include "shoal/ops/permute.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

/// One warp per row; the rows are copied as words of 16, 4 or 2 bytes.
template <class Word>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(Word* rows_RW, const Word* x_TW, const std::int32_t* slot_of_row_R,
                  std::int64_t R, std::int64_t W, std::int64_t K) {
  const std::int64_t r = thread_index() / kWarpSize;
  if (r >= R || slot_of_row_R[r] < 0) return;
  const Word* from = x_TW + slot_of_row_R[r] / K * W;
  Word* to = rows_RW + r * W;
  for (std::int64_t w = threadIdx.x % kWarpSize; w < W; w += kWarpSize) to[w] = from[w];
}

template <class Word>
void launch_gather(const Exec& exec, const GatherRows& a) {
  const std::int64_t R = a.rows_RD.dim(0);
  const std::int64_t words =
      a.rows_RD.dim(1) * size_of(a.x_TD.dtype()) / static_cast<std::int64_t>(sizeof(Word));
  gather_kernel<<<blocks_for(R, kWarps), kThreads, 0, exec.cuda().stream>>>(
      reinterpret_cast<Word*>(a.rows_RD.bytes_begin()),
      reinterpret_cast<const Word*>(a.x_TD.bytes_begin()),
      device_data<std::int32_t>(a.slot_of_row_R), R, words, a.slots_per_token);
  check_launch();
}

/// One block per token, in words as above.
template <class Word>
__global__ void __launch_bounds__(kThreads)
    scatter_kernel(Word* rows_RW, const Word* x_TW, const std::int32_t* row_of_slot_TK,
                   std::int64_t W, int K) {
  const std::int64_t t = blockIdx.x;
  for (std::int64_t w = threadIdx.x; w < W; w += blockDim.x) {
    const Word word = x_TW[t * W + w];
    for (int k = 0; k < K; ++k) {
      const std::int64_t row = row_of_slot_TK[t * K + k];
      if (row >= 0) rows_RW[row * W + w] = word;
    }
  }
}

template <class Word>
void launch_scatter(const Exec& exec, const ScatterRows& a) {
  const std::int64_t words =
      a.x_TD.dim(1) * size_of(a.x_TD.dtype()) / static_cast<std::int64_t>(sizeof(Word));
  scatter_kernel<<<static_cast<unsigned>(a.x_TD.dim(0)), threads_for(words, kThreads), 0,
                   exec.cuda().stream>>>(reinterpret_cast<Word*>(a.rows_RD.bytes_begin()),
                                         reinterpret_cast<const Word*>(a.x_TD.bytes_begin()),
                                         device_data<std::int32_t>(a.row_of_slot_TK), words,
                                         static_cast<int>(a.row_of_slot_TK.dim(1)));
  check_launch();
}

/// Calls `body(Word{})` with the widest word that rows of `row_bytes` at these addresses allow.
template <class Body>
void with_word(std::int64_t row_bytes, std::int64_t elem_bytes, const std::byte* rows,
               const std::byte* x, const Body& body) {
  if (allows_vectors<std::byte>(row_bytes, rows, x)) {
    body(uint4{});
  } else if (elem_bytes == 4) {
    body(std::uint32_t{});
  } else {
    body(std::uint16_t{});
  }
}

template <class Elem>
struct Combine {
  Elem* y_TD;
  const Elem* rows_RD;
  const std::int32_t* row_of_slot_TK;
  const float* weight_TK;
  const Elem* add_TD;
  std::int64_t T, D;
  int K;
};

/// One warp per token, N neighbouring columns per lane.
template <class Elem, int N>
__global__ void __launch_bounds__(kThreads) combine_kernel(Combine<Elem> a) {
  const std::int64_t t = thread_index() / kWarpSize;
  if (t >= a.T) return;
  for (std::int64_t d = threadIdx.x % kWarpSize * N; d < a.D; d += kWarpSize * N) {
    Vec<float, N> sum{};
    for (int k = 0; k < a.K; ++k) {
      const std::int64_t row = a.row_of_slot_TK[t * a.K + k];
      if (row < 0) continue;
      const float weight = a.weight_TK == nullptr ? 1.0F : a.weight_TK[t * a.K + k];
      const Vec<float, N> x = load_floats<N>(a.rows_RD + row * a.D + d);
#pragma unroll
      for (int i = 0; i < N; ++i) sum.v[i] = fmaf(weight, x.v[i], sum.v[i]);
    }
    if (a.add_TD != nullptr) {
      const Vec<float, N> add = load_floats<N>(a.add_TD + t * a.D + d);
#pragma unroll
      for (int i = 0; i < N; ++i) sum.v[i] += add.v[i];
    }
    store_floats(a.y_TD + t * a.D + d, sum);
  }
}

}  // namespace

void gather_rows(const Exec& exec, const GatherRows& a) {
  const std::int64_t elem_bytes = size_of(a.x_TD.dtype());
  with_word(a.rows_RD.dim(1) * elem_bytes, elem_bytes, a.rows_RD.bytes_begin(),
            a.x_TD.bytes_begin(), [&](auto word) { launch_gather<decltype(word)>(exec, a); });
}

void scatter_rows(const Exec& exec, const ScatterRows& a) {
  const std::int64_t elem_bytes = size_of(a.x_TD.dtype());
  with_word(a.rows_RD.dim(1) * elem_bytes, elem_bytes, a.rows_RD.bytes_begin(),
            a.x_TD.bytes_begin(), [&](auto word) { launch_scatter<decltype(word)>(exec, a); });
}

void combine_rows(const Exec& exec, const CombineRows& a) {
  with_device_elem(a.y_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Combine<Elem> args{.y_TD = device_data<Elem>(a.y_TD),
                             .rows_RD = device_data<Elem>(a.rows_RD),
                             .row_of_slot_TK = device_data<std::int32_t>(a.row_of_slot_TK),
                             .weight_TK = device_data<float>(a.weight_TK),
                             .add_TD = device_data<Elem>(a.add_TD),
                             .T = a.y_TD.dim(0),
                             .D = a.y_TD.dim(1),
                             .K = static_cast<int>(a.row_of_slot_TK.dim(1))};
    with_width<Elem>(allows_vectors<Elem>(args.D, args.y_TD, args.rows_RD, args.add_TD),
                     [&](auto n) {
                       combine_kernel<Elem, n.value>
                           <<<blocks_for(args.T, kWarps), kThreads, 0, exec.cuda().stream>>>(args);
                     });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
