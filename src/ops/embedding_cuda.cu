// Embedding. The backward pass sorts the tokens by id, stably, and gives each run of equal ids to
// one block a column chunk, which sums it in ascending t: no atomics, always the same bits.
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "ops/cuda_common.cuh"
#include "ops/embedding_sort.hpp"
#include "shoal/ops/embedding.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

/// Rows of the table of one rank.
struct Rows {
  const std::int32_t* token_T;
  std::int64_t V, first_id;
  /// Row of token t; V where another rank holds it.
  __device__ std::int64_t of(std::int64_t t) const {
    const std::int64_t row = token_T[t] - first_id;
    return row >= 0 && row < V ? row : V;
  }
};

template <class Elem, int N>
__global__ void forward_kernel(Elem* x_TD, const Elem* table_VD, Rows rows, std::int64_t D) {
  const std::int64_t t = blockIdx.x, row = rows.of(t);
  const Elem* row_D = table_VD + row * D;
  for (std::int64_t d = std::int64_t{threadIdx.x} * N; d < D; d += std::int64_t{blockDim.x} * N) {
    if (row < rows.V) {
      store_vec(x_TD + t * D + d, load_vec<N>(row_D + d));
    } else {
      store_floats(x_TD + t * D + d, Vec<float, N>{});
    }
  }
}

__global__ void start_sort_kernel(std::uint32_t* id_T, std::int32_t* order_T, Rows rows,
                                  std::int64_t T) {
  const std::int64_t t = thread_index();
  if (t >= T) return;
  id_T[t] = static_cast<std::uint32_t>(rows.of(t));
  order_T[t] = static_cast<std::int32_t>(t);
}

/// Tokens in order of (id, t).
struct SortedTokens {
  const std::uint32_t* id_T;
  const std::int32_t* order_T;
};

SortedTokens sort_tokens(const Exec& exec, const EmbeddingBackward& a, std::byte* memory) {
  const std::int64_t T = a.token_T.dim(0);
  const std::int64_t stride = sort_buffer_bytes(T);
  const auto buffer = [&](int i) { return memory + i * stride; };
  cub::DoubleBuffer<std::uint32_t> id{reinterpret_cast<std::uint32_t*>(buffer(0)),
                                      reinterpret_cast<std::uint32_t*>(buffer(1))};
  cub::DoubleBuffer<std::int32_t> order{reinterpret_cast<std::int32_t*>(buffer(2)),
                                        reinterpret_cast<std::int32_t*>(buffer(3))};
  cudaStream_t stream = exec.cuda().stream;
  start_sort_kernel<<<blocks_for(T, kThreads), kThreads, 0, stream>>>(
      id.Current(), order.Current(),
      Rows{a.token_T.data<std::int32_t>(), a.dtable_VD.dim(0), a.first_id}, T);
  check_launch();
  const int bits = std::bit_width(static_cast<std::uint64_t>(a.dtable_VD.dim(0)));
  const auto sort = [&](void* temporary, std::size_t& bytes) {
    shoal::cuda::check(cub::DeviceRadixSort::SortPairs(temporary, bytes, id, order,
                                                       static_cast<int>(T), 0, bits, stream));
  };
  std::size_t bytes = 0;
  sort(nullptr, bytes);
  expect(static_cast<std::int64_t>(bytes) <= sort_temporary_bytes(T),
         "embedding_backward: cub wants more scratch than planned");
  sort(buffer(4), bytes);
  return {id.Current(), order.Current()};
}

template <class Elem, int N>
__global__ void sum_runs_kernel(float* dtable_VD, const Elem* dx_TD, SortedTokens sorted,
                                std::int64_t T, std::int64_t V, std::int64_t D) {
  const std::int64_t begin = blockIdx.x;
  const std::uint32_t id = sorted.id_T[begin];
  if (id >= V) return;                                    // another rank's
  if (begin > 0 && sorted.id_T[begin - 1] == id) return;  // not the first of its run
  const std::int64_t d = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  if (d >= D) return;
  Vec<float, N> sum = load_vec<N>(dtable_VD + id * D + d);
#pragma unroll 4
  for (std::int64_t i = begin; i < T && sorted.id_T[i] == id; ++i) {
    const Vec<float, N> dx = load_floats<N>(dx_TD + sorted.order_T[i] * D + d);
#pragma unroll
    for (int k = 0; k < N; ++k) sum.v[k] += dx.v[k];
  }
  store_vec(dtable_VD + id * D + d, sum);
}

}  // namespace

void embedding_forward(const Exec& exec, const EmbeddingForward& a) {
  const auto T = static_cast<unsigned>(a.token_T.dim(0));
  const std::int64_t D = a.table_VD.dim(1);
  with_device_elem(a.table_VD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    Elem* x = device_data<Elem>(a.x_TD);
    const Elem* table = device_data<Elem>(a.table_VD);
    with_width<Elem>(allows_vectors<Elem>(D, x, table), [&](auto width) {
      constexpr int N = decltype(width)::value;
      forward_kernel<Elem, N><<<T, threads_for(ceil_div(D, N)), 0, exec.cuda().stream>>>(
          x, table, Rows{a.token_T.data<std::int32_t>(), a.table_VD.dim(0), a.first_id}, D);
    });
  });
  check_launch();
}

void embedding_backward(const Exec& exec, const EmbeddingBackward& a,
                        const TensorView& sort_scratch) {
  const std::int64_t T = a.token_T.dim(0);
  const std::int64_t D = a.dtable_VD.dim(1);
  const SortedTokens sorted = sort_tokens(exec, a, sort_scratch.bytes_begin());
  with_device_elem(a.dx_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Elem* dx = device_data<Elem>(a.dx_TD);
    float* dtable = a.dtable_VD.data<float>();
    with_width<Elem>(allows_vectors<Elem>(D, dx, dtable), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const unsigned threads = threads_for(ceil_div(D, N), 128);
      const dim3 grid{static_cast<unsigned>(T), blocks_for(ceil_div(D, N), threads)};
      sum_runs_kernel<Elem, N>
          <<<grid, threads, 0, exec.cuda().stream>>>(dtable, dx, sorted, T, a.dtable_VD.dim(0), D);
    });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
