// Maps over elements. An operation is a small struct whose `at<N>(i)` handles elements [i, i + N).
#include "ops/cuda_common.cuh"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;  // then each thread strides

template <class To, class From>
struct Cast {
  To* to;
  const From* from;
  template <int N>
  __device__ void at(std::int64_t i) const {
    store_floats(to + i, load_floats<N>(from + i));
  }
};

template <class Elem>
struct Add {
  Elem* y;
  const Elem* a;
  const Elem* b;
  template <int N>
  __device__ void at(std::int64_t i) const {
    Vec<float, N> sum = load_floats<N>(a + i);
    const Vec<float, N> other = load_floats<N>(b + i);
#pragma unroll
    for (int k = 0; k < N; ++k) sum.v[k] += other.v[k];
    store_floats(y + i, sum);
  }
};

struct Axpy {
  float* y;
  const float* x;
  float a;
  template <int N>
  __device__ void at(std::int64_t i) const {
    Vec<float, N> sum = load_vec<N>(y + i);
    const Vec<float, N> other = load_vec<N>(x + i);
#pragma unroll
    for (int k = 0; k < N; ++k) sum.v[k] += a * other.v[k];
    store_vec(y + i, sum);
  }
};

template <class T>
struct Fill {
  T* y;
  T value;
  template <int N>
  __device__ void at(std::int64_t i) const {
    Vec<T, N> all;
#pragma unroll
    for (int k = 0; k < N; ++k) all.v[k] = value;
    store_vec(y + i, all);
  }
};

/// `wide` elements (a multiple of N) at N a time, the rest one by one.
template <int N, class Op>
__global__ void each_kernel(Op op, std::int64_t wide, std::int64_t n) {
  for (std::int64_t i = thread_index() * N; i < wide; i += thread_count() * N) {
    op.template at<N>(i);
  }
  for (std::int64_t i = wide + thread_index(); i < n; i += thread_count()) op.template at<1>(i);
}

template <int N, class Op>
void launch_each(const Exec& exec, const Op& op, std::int64_t n, bool vectors) {
  const std::int64_t wide = vectors ? n - n % N : 0;
  const unsigned blocks = blocks_for(wide / N + n - wide, kThreads, kMaxBlocks);
  each_kernel<N><<<blocks, kThreads, 0, exec.cuda().stream>>>(op, wide, n);
  check_launch();
}

__global__ void sum_kernel(float* part_P, const float* x, std::int64_t n, std::int64_t size) {
  const std::int64_t end = min(n, (blockIdx.x + 1) * size);
  float sum = 0.0F;
  for (std::int64_t i = blockIdx.x * size + threadIdx.x; i < end; i += blockDim.x) sum += x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) part_P[blockIdx.x] = sum;
}

}  // namespace

void cast(const Exec& exec, const TensorView& to_view, const ConstTensorView& from_view) {
  constexpr int kWidth = 4;
  with_device_elem(to_view.dtype(), [&](auto target) {
    with_device_elem(from_view.dtype(), [&](auto source) {
      using To = decltype(target);
      using From = decltype(source);
      const Cast<To, From> op{device_data<To>(to_view), device_data<From>(from_view)};
      launch_each<kWidth>(exec, op, to_view.elements(),
                          allows_vectors<To, kWidth>(0, op.to, op.from));
    });
  });
}

void add(const Exec& exec, const TensorView& y, const ConstTensorView& a,
         const ConstTensorView& b) {
  with_device_elem(y.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Add<Elem> op{device_data<Elem>(y), device_data<Elem>(a), device_data<Elem>(b)};
    launch_each<kVecWidth<Elem>>(exec, op, y.elements(), allows_vectors<Elem>(0, op.y, op.a, op.b));
  });
}

void axpy(const Exec& exec, const TensorView& y, const ConstTensorView& x, float a) {
  const Axpy op{y.data<float>(), x.data<float>(), a};
  launch_each<kVecWidth<float>>(exec, op, y.elements(), allows_vectors<float>(0, op.y, op.x));
}

void fill(const Exec& exec, const TensorView& y, float value) {
  if (y.dtype() == DType::i32) {
    const Fill<std::int32_t> op{y.data<std::int32_t>(), static_cast<std::int32_t>(value)};
    launch_each<4>(exec, op, y.elements(), allows_vectors<std::int32_t>(0, op.y));
  } else {
    const Fill<float> op{y.data<float>(), value};
    launch_each<4>(exec, op, y.elements(), allows_vectors<float>(0, op.y));
  }
}

void sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
         const TensorView& part_P) {
  const std::int64_t parts = part_P.dim(0);
  float* part = part_P.data<float>();
  if (parts > 0) {
    sum_kernel<<<static_cast<unsigned>(parts), kThreads, 0, exec.cuda().stream>>>(
        part, x.data<float>(), x.elements(), part_size(x.elements()));
    check_launch();
  }
  sum_kernel<<<1, kThreads, 0, exec.cuda().stream>>>(out.data<float>(), part, parts, parts);
  check_launch();
}

}  // namespace shoal::ops::cuda
