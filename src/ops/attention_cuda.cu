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
  auto* delta = allocate(exec, attention_backward_scratch(exec, a)).data<float>();
  with_device_elem(a.q.rows.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    launch_delta<Elem>(exec, a, delta);
    const BackwardCall<Elem> call{
        .dq = head_data<Elem>(a.dq),
        .dk = head_data<Elem>(a.dk),
        .dv = head_data<Elem>(a.dv),
        .dout = head_data<Elem>(a.dout),
        .q = head_data<Elem>(a.q),
        .k = head_data<Elem>(a.k),
        .v = head_data<Elem>(a.v),
        .lse = device_data<float>(a.lse_HT),
        .delta = delta,
        .rules = rules_of(a.doc_start_T, a.active_groups_T),
        .heads = static_cast<int>(a.q.heads),
        .groups = static_cast<int>(a.k.heads),
        .scale = a.scale,
        .vectors = heads_allow_vectors<Elem>(a.dq, a.dk, a.dv, a.dout, a.q, a.k, a.v)};
    if constexpr (std::is_same_v<Elem, float>) {
      launch_backward_simt(exec, call);
    } else {
      launch_key_gradient_mma(exec, call);
      launch_query_gradient_mma(exec, call);
    }
  });
}

}  // namespace shoal::ops::cuda
