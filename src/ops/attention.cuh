#pragma once
// What all CUDA kernels of attention share: where heads lie, which pairs are active.
#include <limits>

#include "ops/cuda_common.cuh"
#include "shoal/ops/attention.hpp"

namespace shoal::ops::cuda {

inline constexpr float kLog2E = 1.44269504088896340736F;
inline constexpr float kLn2 = 0.693147180559945309417F;
inline constexpr int kMaxHeadDim = 256;  // sums of a row live in registers

/// Element (t, head, i) is at data[t * stride + head * head_dim + i].
template <class Elem>
struct HeadData {
  Elem* data;
  std::int64_t stride;
  int head_dim;
  [[nodiscard]] __device__ Elem* row(int head, std::int64_t t) const {
    return data + t * stride + std::int64_t{head} * head_dim;
  }
};
template <class Elem, class View>
[[nodiscard]] auto head_data(const BasicHeads<View>& heads) {
  auto* base = device_data<Elem>(heads.rows) + heads.first;
  return HeadData<std::remove_pointer_t<decltype(base)>>{base, heads.rows.dim(1),
                                                         static_cast<int>(heads.head_dim)};
}
/// True when every head's rows allow 16-byte accesses.
template <class Elem, class... H>
[[nodiscard]] bool heads_allow_vectors(const H&... heads) {
  constexpr auto kElements = static_cast<std::int64_t>(16 / sizeof(Elem));
  const auto aligned = [](const auto& h) {
    return reinterpret_cast<std::uintptr_t>(h.rows.bytes_begin()) % 16 == 0 &&
           h.rows.dim(1) % kElements == 0 && h.first % kElements == 0 &&
           h.head_dim % kElements == 0;
  };
  return (aligned(heads) && ...);
}

/// Which keys a token sees and which groups it uses; as in the argument structs.
struct TokenRules {
  const std::int32_t* doc_start;
  const std::int32_t* active_groups;  // or null
  int tokens;

  [[nodiscard]] __device__ bool active(int t, int group) const {
    return active_groups == nullptr || group < active_groups[t];
  }
  /// Any of tokens [t0, t0 + count); all lanes of the warp call and get the same answer.
  [[nodiscard]] __device__ bool any_active(int t0, int count, int group) const {
    if (active_groups == nullptr) return true;
    bool mine = false;
    for (int i = static_cast<int>(threadIdx.x) % kWarpSize; i < count; i += kWarpSize) {
      mine = mine || group < active_groups[t0 + i];
    }
    return __any_sync(kFullWarp, mine);
  }
};

/// One call of the forward or backward kernels. The lse of an inactive pair is infinity, so that
/// its probabilities come out as zero.
template <class Elem>
struct ForwardCall {
  HeadData<Elem> out;
  HeadData<const Elem> q, k, v;
  float* lse;  // or null
  TokenRules rules;
  int heads, groups;
  float scale;
  bool vectors;
};
template <class Elem>
struct BackwardCall {
  HeadData<Elem> dq, dk, dv;
  HeadData<const Elem> dout, q, k, v;
  const float* lse;
  const float* delta;  // [H, T]: <dout, out>
  TokenRules rules;
  int heads, groups;
  float scale;
  bool vectors;
};

[[nodiscard]] inline TokenRules rules_of(const ConstTensorView& doc_start,
                                         const ConstTensorView& active) {
  return {.doc_start = doc_start.data<std::int32_t>(),
          .active_groups = active.absent() ? nullptr : active.data<std::int32_t>(),
          .tokens = static_cast<int>(doc_start.dim(0))};
}
template <class Elem>
[[nodiscard]] ForwardCall<Elem> forward_call(const AttentionForward& a) {
  return {.out = head_data<Elem>(a.out),
          .q = head_data<Elem>(a.q),
          .k = head_data<Elem>(a.k),
          .v = head_data<Elem>(a.v),
          .lse = device_data<float>(a.lse_HT),
          .rules = rules_of(a.doc_start_T, a.active_groups_T),
          .heads = static_cast<int>(a.q.heads),
          .groups = static_cast<int>(a.k.heads),
          .scale = a.scale,
          .vectors = heads_allow_vectors<Elem>(a.out, a.q, a.k, a.v)};
}
/// Without delta, which is not known yet.
template <class Elem>
[[nodiscard]] BackwardCall<Elem> backward_call(const AttentionBackward& a) {
  return {.dq = head_data<Elem>(a.dq),
          .dk = head_data<Elem>(a.dk),
          .dv = head_data<Elem>(a.dv),
          .dout = head_data<Elem>(a.dout),
          .q = head_data<Elem>(a.q),
          .k = head_data<Elem>(a.k),
          .v = head_data<Elem>(a.v),
          .lse = device_data<float>(a.lse_HT),
          .delta = nullptr,
          .rules = rules_of(a.doc_start_T, a.active_groups_T),
          .heads = static_cast<int>(a.q.heads),
          .groups = static_cast<int>(a.k.heads),
          .scale = a.scale,
          .vectors = heads_allow_vectors<Elem>(a.dq, a.dk, a.dv, a.dout, a.q, a.k, a.v)};
}

/// 2^x, subnormal results flushed to zero.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Over the four lanes that share a row of sums.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kFullWarp, x, 1);
  return x + __shfl_xor_sync(kFullWarp, x, 2);
}

/// Calls `body(std::integral_constant<int, D>{})` with the smallest instance that holds head_dim;
/// columns beyond it are zeros.
template <class Body>
void with_head_dim(std::int64_t head_dim, Body&& body) {
  if (head_dim <= 32) return body(std::integral_constant<int, 32>{});
  if (head_dim <= 64) return body(std::integral_constant<int, 64>{});
  if (head_dim <= 128) return body(std::integral_constant<int, 128>{});
  return body(std::integral_constant<int, kMaxHeadDim>{});
}

/// Raises the kernel's limit of dynamic shared memory.
template <class Kernel>
void allow_shared(Kernel* kernel, std::size_t bytes) {
  shoal::cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(bytes)));
}

/// Whether the kernels on Hopper's warpgroup products (hopper/attention_*.cuh) can take a call on
/// heads of `head_dim` values that are read by the copy engine in pieces of 16 bytes (`vectors`).
[[nodiscard]] inline bool allows_wgmma(const Exec& exec, std::int64_t head_dim, bool vectors,
                                       float scale) {
  return kHasWgmma && exec.cuda().compute_capability == 90 && (head_dim == 64 || head_dim == 128) &&
         vectors && scale > 0.0F;
}

// Launchers, one family of kernels a file. Elem is a 16-bit type for mma, float for simt.
template <class Elem>
void launch_forward_mma(const Exec& exec, const ForwardCall<Elem>& call);
/// Where allows_wgmma says so. `words`: query_order_words(T) ints of scratch.
template <class Elem>
void launch_forward_wgmma(const Exec& exec, const ForwardCall<Elem>& call,
                          const AttentionForward& args, int* words);
template <class Elem>
void launch_key_gradient_mma(const Exec& exec, const BackwardCall<Elem>& call);
template <class Elem>
void launch_query_gradient_mma(const Exec& exec, const BackwardCall<Elem>& call);
/// All of the backward pass without warpgroup products; `scratch`: heads * tokens floats.
template <class Elem>
void launch_backward_by_warps(const Exec& exec, const AttentionBackward& args,
                              const BackwardCall<Elem>& call, float* scratch);
/// The same where allows_wgmma says so. `scratch`: backward_work_words
/// (attention_backward_work.hpp).
template <class Elem>
void launch_backward_wgmma(const Exec& exec, const AttentionBackward& args,
                           const BackwardCall<Elem>& call, float* scratch);
void launch_forward_simt(const Exec& exec, const ForwardCall<float>& call);
void launch_backward_simt(const Exec& exec, const BackwardCall<float>& call);

}  // namespace shoal::ops::cuda
