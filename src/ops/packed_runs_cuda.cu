#include "ops/cuda_common.cuh"
#include "ops/packed_runs_detail.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWidth = 4;

template <int N, class To, class From>
__device__ void copy_elements(To* to, const From* from, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin + threadIdx.x * N; i < end; i += kThreads * N) {
    if constexpr (std::is_same_v<To, From>) {
      store_vec(to + i, load_vec<N>(from + i));
    } else {
      store_floats(to + i, load_floats<N>(from + i));
    }
  }
}

/// One run a block. `aligned`: both buffers allow vectors.
template <class To, class From>
__global__ void __launch_bounds__(kThreads)
    copy_runs_kernel(To* to, const From* from, RunWork work, bool aligned) {
  const PackedRun run = work.table[blockIdx.x];
  to += target_of(work, run);
  from += source_of(work, run);
  const bool vectors = aligned && run.flat % kWidth == 0 && run.packed % kWidth == 0;
  const std::int64_t rest = vectors ? run.count / kWidth * kWidth : 0;
  copy_elements<kWidth>(to, from, 0, rest);
  copy_elements<1>(to, from, rest, run.count);
}

void copy_runs(const Exec& exec, const CopyRuns& a, const RunWork& work) {
  with_device_elem(a.to.dtype(), [&](auto target) {
    with_device_elem(a.from.dtype(), [&](auto source) {
      using To = decltype(target);
      using From = decltype(source);
      To* to = device_data<To>(a.to);
      const From* from = device_data<From>(a.from);
      copy_runs_kernel<To, From>
          <<<static_cast<unsigned>(work.runs), kThreads, 0, exec.cuda().stream>>>(
              to, from, work, allows_vectors<float, kWidth>(kWidth, to, from));
    });
  });
  check_launch();
}

}  // namespace

void pack_runs(const Exec& exec, const CopyRuns& a) {
  copy_runs(exec, a, run_work(a, true));
}

void unpack_runs(const Exec& exec, const CopyRuns& a) {
  copy_runs(exec, a, run_work(a, false));
}

}  // namespace shoal::ops::cuda
