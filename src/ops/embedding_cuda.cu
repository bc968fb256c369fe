// Embedding. The backward pass sorts the tokens by id, stably. Each whole piece of kPieceTokens
// tokens of an id is summed by a block of its own; then a block a row of the table and column chunk
// adds the row's pieces and the tokens after them, or writes zeros. No atomics, always the same
// bits.
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "ops/cuda_common.cuh"
#include "ops/embedding_scratch.hpp"
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

/// start[v] = position of the first token whose id is at least v, for v in [0, V].
__global__ void start_kernel(std::int32_t* start_V1, const std::uint32_t* id_T, std::int64_t T,
                             std::int64_t V) {
  const std::int64_t v = thread_index();
  if (v > V) return;
  std::int64_t low = 0, high = T;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (id_T[middle] < v) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  start_V1[v] = static_cast<std::int32_t>(low);
}

template <class Elem>
struct Gradient {
  float* dtable_VD;
  float* piece_PD;
  const std::int32_t* start_V1;
  const Elem* dx_TD;
  SortedTokens sorted;
  std::int64_t T, V, D;
  bool add;

  /// sum += dx of the tokens at [begin, end) in the order of ids, columns d to d + N - 1.
  template <int N>
  __device__ void add_tokens(Vec<float, N>& sum, std::int64_t begin, std::int64_t end,
                             std::int64_t d) const {
#pragma unroll 8
    for (std::int64_t i = begin; i < end; ++i) {
      const Vec<float, N> dx = load_floats<N>(dx_TD + sorted.order_T[i] * D + d);
#pragma unroll
      for (int k = 0; k < N; ++k) sum.v[k] += dx.v[k];
    }
  }
};

/// Block (p, c): the piece that starts at one of the positions of row p of the pieces, if there is.
template <class Elem, int N>
__global__ void piece_kernel(Gradient<Elem> a) {
  __shared__ std::int64_t begin;
  if (threadIdx.x == 0) begin = -1;
  __syncthreads();
  if (threadIdx.x < kPieceTokens) {
    const std::int64_t i = std::int64_t{blockIdx.x} * kPieceTokens + threadIdx.x;
    const std::uint32_t id = a.sorted.id_T[i];
    const std::int64_t last = i + kPieceTokens - 1;
    if (id < a.V && last < a.T && a.sorted.id_T[last] == id &&
        (i - a.start_V1[id]) % kPieceTokens == 0) {
      begin = i;
    }
  }
  __syncthreads();
  const std::int64_t d = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  if (begin < 0 || d >= a.D) return;
  Vec<float, N> sum{};
  a.template add_tokens<N>(sum, begin, begin + kPieceTokens, d);
  store_vec(a.piece_PD + piece_of(begin) * a.D + d, sum);
}

/// Block (v, c): row v of the table.
template <class Elem, int N>
__global__ void row_kernel(Gradient<Elem> a) {
  const std::int64_t v = blockIdx.x, begin = a.start_V1[v], end = a.start_V1[v + 1];
  const std::int64_t d = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  if (d >= a.D || (a.add && begin == end)) return;
  float* row_D = a.dtable_VD + v * a.D;
  Vec<float, N> sum{};
  if (a.add) sum = load_vec<N>(row_D + d);
  const std::int64_t rest = end - (end - begin) % kPieceTokens;
#pragma unroll 4
  for (std::int64_t i = begin; i < rest; i += kPieceTokens) {
    const Vec<float, N> piece = load_vec<N>(a.piece_PD + piece_of(i) * a.D + d);
#pragma unroll
    for (int k = 0; k < N; ++k) sum.v[k] += piece.v[k];
  }
  a.template add_tokens<N>(sum, rest, end, d);
  store_vec(row_D + d, sum);
}

template <class Elem, int N>
void launch_gradient(const Exec& exec, const Gradient<Elem>& a) {
  const unsigned threads = threads_for(ceil_div(a.D, N));
  const unsigned chunks = blocks_for(ceil_div(a.D, N), threads);
  const std::int64_t pieces = a.T / kPieceTokens;
  cudaStream_t stream = exec.cuda().stream;
  if (pieces > 0) {
    piece_kernel<Elem, N><<<dim3{static_cast<unsigned>(pieces), chunks}, threads, 0, stream>>>(a);
  }
  row_kernel<Elem, N><<<dim3{static_cast<unsigned>(a.V), chunks}, threads, 0, stream>>>(a);
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
                        const EmbeddingScratch& scratch) {
  const std::int64_t T = a.token_T.dim(0), V = a.dtable_VD.dim(0), D = a.dtable_VD.dim(1);
  if (V == 0) return;
  const SortedTokens sorted = sort_tokens(exec, a, scratch.sort.bytes_begin());
  auto* start_V1 = device_data<std::int32_t>(scratch.start_V1);
  start_kernel<<<blocks_for(V + 1, kThreads), kThreads, 0, exec.cuda().stream>>>(start_V1,
                                                                                 sorted.id_T, T, V);
  check_launch();
  with_device_elem(a.dx_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Gradient<Elem> gradient{.dtable_VD = a.dtable_VD.data<float>(),
                                  .piece_PD = scratch.piece_PD.data<float>(),
                                  .start_V1 = start_V1,
                                  .dx_TD = device_data<Elem>(a.dx_TD),
                                  .sorted = sorted,
                                  .T = T,
                                  .V = V,
                                  .D = D,
                                  .add = a.accumulate == Accumulate::add};
    // Four columns a thread: 16 bytes of the table, which is most of what moves.
    if (allows_vectors<Elem, 4>(D, gradient.dx_TD, gradient.dtable_VD, gradient.piece_PD)) {
      launch_gradient<Elem, 4>(exec, gradient);
    } else {
      launch_gradient<Elem, 1>(exec, gradient);
    }
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
