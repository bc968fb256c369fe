#include "ops/cuda_common.cuh"
#include "ops/optimizer_detail.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

/// Over the block, in a fixed order; the result is right on thread 0.
__device__ double block_sum_double(double x) {
  __shared__ double partial[kThreads];
  partial[threadIdx.x] = x;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  return threadIdx.x == 0 ? partial[0] : 0.0;  // only its writer reads it: no barrier needed
}

/// This thread's share of a run, added to `sum`.
template <int N>
__device__ double add_squares(double sum, const float* x, const SumRun& run) {
  const std::int64_t end = run.first + run.count;
#pragma unroll 4
  for (std::int64_t i = run.first + threadIdx.x * N; i < end; i += kThreads * N) {
    const Vec<float, N> v = load_vec<N>(x + i);
#pragma unroll
    for (int j = 0; j < N; ++j) sum = fma(double{v.v[j]}, double{v.v[j]}, sum);
  }
  return sum;
}

/// Block b sums part b. `aligned`: x allows vectors.
__global__ void __launch_bounds__(kThreads)
    square_parts_kernel(double* parts, const float* x, SumWork work, bool aligned) {
  const std::int64_t end = first_run(work, blockIdx.x + std::int64_t{1});
  double sum = 0.0;
  for (std::int64_t r = first_run(work, blockIdx.x); r < end; ++r) {
    const SumRun run = run_of(work, r);
    const bool vectors = aligned && run.first % 4 == 0 && run.count % 4 == 0;
    sum = vectors ? add_squares<4>(sum, x, run) : add_squares<1>(sum, x, run);
  }
  sum = block_sum_double(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    total_kernel(double* out, const double* parts, std::int64_t count, bool add) {
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += parts[i];
  sum = block_sum_double(sum);
  if (threadIdx.x == 0) out[0] = add ? out[0] + sum : sum;
}

__global__ void flag_kernel(double* out, const float* overflow) {
  if (overflowed(overflow[0])) out[0] = kOverflowNorm;
}

__global__ void decide_kernel(StepState* state, DecideScalars settings, const double* square_sum) {
  *state = decide(*state, settings, square_sum[0]);
}

template <class Elem>
__global__ void split_kernel(Elem* value, std::uint16_t* low, const float* master,
                             std::int64_t count) {
  const std::int64_t i = thread_index();
  if (i >= count) return;
  if constexpr (std::is_same_v<Elem, __nv_bfloat16>) {
    const SplitBits s = split_bits(__float_as_uint(master[i]));
    value[i] = __ushort_as_bfloat16(s.high);
    low[i] = s.low;
  } else {
    value[i] = from_float<Elem>(master[i]);
  }
}

__global__ void join_kernel(float* master, const __nv_bfloat16* value, const std::uint16_t* low,
                            std::int64_t count) {
  const std::int64_t i = thread_index();
  if (i >= count) return;
  master[i] = __uint_as_float(join_bits({__bfloat16_as_ushort(value[i]), low[i]}));
}

}  // namespace

void square_sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
                Accumulate accumulate, const SumTableViews& table) {
  const ScratchScope scope{exec};
  double* parts = device_data<double>(square_parts(exec));
  const float* values = device_data<float>(x);
  const SumWork work = sum_work(x, table);
  const auto stream = exec.cuda().stream;
  if (work.parts > 0) {
    square_parts_kernel<<<static_cast<unsigned>(work.parts), kThreads, 0, stream>>>(
        parts, values, work, allows_vectors<float, 4>(4, values));
    check_launch();
  }
  total_kernel<<<1, kThreads, 0, stream>>>(device_data<double>(out), parts, work.parts,
                                           accumulate == Accumulate::add);
  check_launch();
}

void flag_overflow(const Exec& exec, const TensorView& out, const ConstTensorView& overflow) {
  flag_kernel<<<1, 1, 0, exec.cuda().stream>>>(device_data<double>(out),
                                               device_data<float>(overflow));
  check_launch();
}

void step_decide(const Exec& exec, const StepDecide& a) {
  decide_kernel<<<1, 1, 0, exec.cuda().stream>>>(
      reinterpret_cast<StepState*>(device_data<std::uint8_t>(a.state)), decide_scalars(a),
      device_data<double>(a.square_sum));
  check_launch();
}

void split_master(const Exec& exec, const MasterSplit& a) {
  const std::int64_t count = a.value.elements();
  with_device_elem(a.value.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    auto* low = a.value.dtype() == DType::bf16 ? device_data<std::uint16_t>(a.low) : nullptr;
    split_kernel<Elem><<<blocks_for(count, kThreads), kThreads, 0, exec.cuda().stream>>>(
        device_data<Elem>(a.value), low, device_data<float>(a.master), count);
  });
  check_launch();
}

void join_master(const Exec& exec, const MasterSplit& a) {
  if (a.value.dtype() == DType::f32) {
    copy(exec, a.master.bytes_begin(), a.value.bytes_begin(), a.value.bytes());
  } else if (a.value.dtype() == DType::bf16) {
    const std::int64_t count = a.value.elements();
    join_kernel<<<blocks_for(count, kThreads), kThreads, 0, exec.cuda().stream>>>(
        device_data<float>(a.master), device_data<__nv_bfloat16>(a.value),
        device_data<std::uint16_t>(a.low), count);
    check_launch();
  }
}

}  // namespace shoal::ops::cuda
