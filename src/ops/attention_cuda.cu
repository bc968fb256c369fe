#include "ops/attention.cuh"
#include "ops/attention_scratch.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kWarpsPerBlock = 8;

void require_head_dim(std::int64_t head_dim) {
  require(head_dim <= kMaxHeadDim, "attention on CUDA: head_dim is " + std::to_string(head_dim) +
                                       ", the largest supported is " + std::to_string(kMaxHeadDim));
}

/// delta[h, t] = <dout, out>; one warp for each pair.
template <class Elem>
__global__ void delta_kernel(float* delta, HeadData<const Elem> dout, HeadData<const Elem> out,
                             int heads, int tokens) {
  const std::int64_t pair = thread_index() / kWarpSize;
  if (pair >= std::int64_t{heads} * tokens) return;
  const auto head = static_cast<int>(pair % heads);
  const std::int64_t t = pair / heads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float sum = 0.0F;
  for (int i = lane; i < out.head_dim; i += kWarpSize) {
    sum += to_float(dout.row(head, t)[i]) * to_float(out.row(head, t)[i]);
  }
  sum = warp_sum(sum);
  if (lane == 0) delta[head * std::int64_t{tokens} + t] = sum;
}

template <class Elem>
void launch_delta(const Exec& exec, const AttentionBackward& a, float* delta) {
  const std::int64_t pairs = a.q.heads * a.q.rows.dim(0);
  delta_kernel<<<blocks_for(pairs, kWarpsPerBlock), kWarpsPerBlock * kWarpSize, 0,
                 exec.cuda().stream>>>(delta, head_data<Elem>(a.dout), head_data<Elem>(a.out),
                                       static_cast<int>(a.q.heads),
                                       static_cast<int>(a.q.rows.dim(0)));
  check_launch();
}

}  // namespace

template <class Elem>
void launch_backward_by_warps(const Exec& exec, const AttentionBackward& args,
                              const BackwardCall<Elem>& call, float* scratch) {
  launch_delta<Elem>(exec, args, scratch);
  BackwardCall<Elem> with_delta = call;
  with_delta.delta = scratch;
  if constexpr (std::is_same_v<Elem, float>) {
    launch_backward_simt(exec, with_delta);
  } else {
    launch_key_gradient_mma(exec, with_delta);
    launch_query_gradient_mma(exec, with_delta);
  }
}
template void launch_backward_by_warps(const Exec&, const AttentionBackward&,
                                       const BackwardCall<__nv_bfloat16>&, float*);
template void launch_backward_by_warps(const Exec&, const AttentionBackward&,
                                       const BackwardCall<__half>&, float*);

void attention_forward(const Exec& exec, const AttentionForward& a) {
  require_head_dim(a.q.head_dim);
  const ScratchScope scope{exec};
  auto* words =
      reinterpret_cast<int*>(allocate(exec, attention_forward_scratch(exec, a)).data<float>());
  with_device_elem(a.q.rows.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const auto call = forward_call<Elem>(a);
    if constexpr (std::is_same_v<Elem, float>) {
      launch_forward_simt(exec, call);
    } else if (allows_wgmma(exec, a.q.head_dim, call.vectors, a.scale)) {
      launch_forward_wgmma(exec, call, a, words);
    } else {
      launch_forward_mma(exec, call);
    }
  });
}

void attention_backward(const Exec& exec, const AttentionBackward& a) {
  require_head_dim(a.q.head_dim);
  const ScratchScope scope{exec};
  auto* words = allocate(exec, attention_backward_scratch(exec, a)).data<float>();
  with_device_elem(a.q.rows.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const auto call = backward_call<Elem>(a);
    if constexpr (!std::is_same_v<Elem, float>) {
      const bool vectors = call.vectors && heads_allow_vectors<Elem>(a.out);
      if (allows_wgmma(exec, a.q.head_dim, vectors, a.scale)) {
        return launch_backward_wgmma(exec, a, call, words);
      }
    }
    launch_backward_by_warps(exec, a, call, words);
  });
}

}  // namespace shoal::ops::cuda
