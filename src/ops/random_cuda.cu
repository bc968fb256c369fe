// Counter-based random numbers: the same integer arithmetic as on the CPU.
#include "ops/cuda_common.cuh"
#include "ops/dropout_mask.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;

template <class Elem>
__global__ void fill_normal_kernel(Elem* y, std::int64_t n, std::uint64_t seed,
                                   std::uint32_t stream, std::int64_t first, float std) {
  for (std::int64_t i = thread_index(); i < n; i += thread_count()) {
    const auto index = static_cast<std::uint64_t>(first + i);
    y[i] = from_float<Elem>(
        std * philox::normal(philox::block(seed, philox::Purpose::weights, index, stream)));
  }
}

template <class Elem>
struct DropElements {
  Elem* y;
  const Elem* x;
  const Elem* add;  ///< may be null
  const std::int64_t* step_seed;
  float p;
  std::uint32_t stream;
  std::int64_t first, n;
};

/// Elements [i, i + N), whose mask starts at `lane` of the group.
template <class Elem, int N>
__device__ void drop(const DropElements<Elem>& a, const DropoutGroup& mask, int lane,
                     std::int64_t i) {
  const float scale = 1.0F / (1.0F - a.p);
  Vec<float, N> y = load_floats<N>(a.x + i);
#pragma unroll
  for (int k = 0; k < N; ++k) y.v[k] = mask.keep[lane + k] ? y.v[k] * scale : 0.0F;
  if (a.add != nullptr) {
    const Vec<float, N> add = load_floats<N>(a.add + i);
#pragma unroll
    for (int k = 0; k < N; ++k) y.v[k] += add.v[k];
  }
  store_floats(a.y + i, y);
}

/// A thread takes one mask group at a time; `aligned`: groups start at multiples of four in memory.
template <class Elem>
__global__ void dropout_kernel(DropElements<Elem> a, bool aligned) {
  constexpr int kSize = DropoutGroup::kSize;
  const DropoutKey key{static_cast<std::uint64_t>(*a.step_seed), a.stream, a.p};
  const std::int64_t begin = a.first / kSize;
  const std::int64_t end = (a.first + a.n - 1) / kSize + 1;
  for (std::int64_t group = begin + thread_index(); group < end; group += thread_count()) {
    const DropoutGroup mask = dropout_group(key, group);
    const std::int64_t i = group * kSize - a.first;
    if (aligned && i + kSize <= a.n) {
      drop<Elem, kSize>(a, mask, 0, i);
      continue;
    }
    for (int lane = 0; lane < kSize; ++lane) {
      if (i + lane >= 0 && i + lane < a.n) drop<Elem, 1>(a, mask, lane, i + lane);
    }
  }
}

}  // namespace

void fill_normal(const Exec& exec, const FillNormal& a) {
  const std::int64_t n = a.y.elements();
  with_device_elem(a.y.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    fill_normal_kernel<<<blocks_for(n, kThreads, kMaxBlocks), kThreads, 0, exec.cuda().stream>>>(
        device_data<Elem>(a.y), n, a.seed, a.stream, a.first, a.std);
  });
  check_launch();
}

void dropout(const Exec& exec, const Dropout& a) {
  with_device_elem(a.y.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const DropElements<Elem> args{.y = device_data<Elem>(a.y),
                                  .x = device_data<Elem>(a.x),
                                  .add = device_data<Elem>(a.add),
                                  .step_seed = a.step_seed.data<std::int64_t>(),
                                  .p = a.p,
                                  .stream = a.stream,
                                  .first = a.first,
                                  .n = a.y.elements()};
    const bool aligned =
        allows_vectors<Elem, DropoutGroup::kSize>(a.first, args.y, args.x, args.add);
    const std::int64_t groups = args.n / DropoutGroup::kSize + 2;
    dropout_kernel<<<blocks_for(groups, kThreads, kMaxBlocks), kThreads, 0, exec.cuda().stream>>>(
        args, aligned);
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
