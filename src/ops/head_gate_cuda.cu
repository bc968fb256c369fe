#include "ops/cuda_common.cuh"
#include "ops/head_gate_detail.hpp"

// The first token of a block stands for the block: one thread computes what the block needs and
// writes it for all its tokens. Sums run over tokens and blocks in order.
namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

struct Blocks {
  const std::int32_t* doc_start_T;
  std::int64_t T, block, max_position;
  __device__ std::int64_t position(std::int64_t t) const { return t - doc_start_T[t]; }
  __device__ bool starts(std::int64_t t) const { return t < T && position(t) % block == 0; }
  /// One past the last token of the block that starts here.
  __device__ std::int64_t end(std::int64_t start) const {
    std::int64_t t = start + 1;
    while (t < T && t < start + block && doc_start_T[t] == doc_start_T[start]) ++t;
    return t;
  }
  /// True when the document of `start` reaches t, a later block's first token.
  __device__ bool same_document(std::int64_t start, std::int64_t t) const {
    return t < T && doc_start_T[t] == doc_start_T[start];
  }
  __device__ float length_feature(std::int64_t position) const {
    return log2f(1.0F + static_cast<float>(position)) /
           log2f(1.0F + static_cast<float>(max_position));
  }
};

/// One warp per token: s_t = w . x_t.
template <class Elem, int N>
__global__ void __launch_bounds__(kThreads)
    score_kernel(float* score_T, const Elem* x_TD, const float* w_D, std::int64_t T,
                 std::int64_t D) {
  const std::int64_t t = thread_index() / kWarpSize;
  if (t >= T) return;
  const int lane = threadIdx.x % kWarpSize;
  float sum = 0.0F;
  for (std::int64_t d = lane * N; d < D; d += kWarpSize * N) {
    const Vec<float, N> x = load_floats<N>(x_TD + t * D + d);
#pragma unroll
    for (int i = 0; i < N; ++i) sum = fmaf(w_D[d + i], x.v[i], sum);
  }
  sum = warp_sum(sum);
  if (lane == 0) score_T[t] = sum;
}

/// Sum over the tokens of each block, kept at the block's first token.
__global__ void block_sum_kernel(float* sum_T, const float* x_T, Blocks blocks) {
  const std::int64_t t = thread_index();
  if (!blocks.starts(t)) return;
  const std::int64_t end = blocks.end(t);
  float sum = 0.0F;
  for (std::int64_t i = t; i < end; ++i) sum += x_T[i];
  sum_T[t] = sum;
}

struct GateOutputs {
  float* gate_T;
  std::int32_t* active_T;
};

/// Groups of the whole model, and which of them live here.
struct Groups {
  int count, stride, offset;
  __device__ int local(int active) const { return (active - offset + stride - 1) / stride; }
  __device__ float global(int j) const { return static_cast<float>(j * stride + offset); }
};
Groups groups_of(std::int64_t groups, const GroupShare& share) {
  return {static_cast<int>(groups), static_cast<int>(share.stride), static_cast<int>(share.offset)};
}

__global__ void gate_kernel(GateOutputs out, const float* block_sum_T, const float* scalars,
                            Blocks blocks, Groups groups) {
  const std::int64_t t = thread_index();
  if (!blocks.starts(t)) return;
  const std::int64_t position = blocks.position(t), end = blocks.end(t);
  float gate = 1.0F;
  int active = groups.count;
  if (position > 0) {
    float before = 0.0F;
#pragma unroll 8
    for (std::int64_t b = t - position; b < t; b += blocks.block) before += block_sum_T[b];
    const float logit = before / static_cast<float>(position) +
                        scalars[0] * blocks.length_feature(position) + scalars[1];
    gate = 1.0F / (1.0F + expf(-logit));
    const auto G = static_cast<float>(groups.count);
    active = static_cast<int>(fminf(fmaxf(floorf(fmaf(G, gate, 0.5F)), 1.0F), G));
  }
  for (std::int64_t i = t; i < end; ++i) {
    out.gate_T[i] = gate;
    out.active_T[i] = groups.local(active);
  }
}

/// One warp per token: slope of the ramp times <dout, out> over the groups that the ramp moves.
template <class Elem, int N>
__global__ void __launch_bounds__(kThreads)
    dgate_kernel(float* dgate_T, const Elem* dout_TC, const Elem* out_TC, const float* gate_T,
                 const std::int32_t* active_T, Blocks blocks, std::int64_t C, Groups groups) {
  const std::int64_t t = thread_index() / kWarpSize;
  if (t >= blocks.T) return;
  const int lane = threadIdx.x % kWarpSize;
  const std::int64_t width = C / (groups.count / groups.stride);
  const auto G = static_cast<float>(groups.count);
  const int active = blocks.position(t) < blocks.block ? 0 : active_T[t];
  float sum = 0.0F;
  for (int j = 0; j < active; ++j) {
    if (!(fabsf(G * gate_T[t] - groups.global(j) - 0.5F) < 1.0F)) continue;
    const std::int64_t first = t * C + j * width;
    for (std::int64_t c = lane * N; c < width; c += kWarpSize * N) {
      const Vec<float, N> dout = load_floats<N>(dout_TC + first + c);
      const Vec<float, N> out = load_floats<N>(out_TC + first + c);
#pragma unroll
      for (int i = 0; i < N; ++i) sum = fmaf(dout.v[i], out.v[i], sum);
    }
  }
  sum = warp_sum(sum);
  if (lane == 0) dgate_T[t] = 0.5F * G * sum;
}

/// One block per sequence: gradient of the budget term for each of its gates.
__global__ void __launch_bounds__(kThreads)
    budget_kernel(float* budget_S, const float* gate_T, const float* scale, Blocks blocks,
                  std::int64_t sequence, float budget) {
  float sum = 0.0F, count = 0.0F;
  for (std::int64_t i = threadIdx.x; i < sequence; i += kThreads) {
    const std::int64_t t = blockIdx.x * sequence + i;
    if (!blocks.starts(t)) continue;
    sum += gate_T[t];
    count += 1.0F;
  }
  sum = block_sum(sum);
  count = block_sum(count);
  if (threadIdx.x == 0) budget_S[blockIdx.x] = 2.0F * scale[0] * (sum / count - budget) / count;
}

/// In place: at each block's first token, its sum of dgate becomes the gradient of its logit.
__global__ void dlogit_kernel(float* dlogit_T, const float* budget_S, const float* gate_T,
                              Blocks blocks, std::int64_t sequence) {
  const std::int64_t t = thread_index();
  if (!blocks.starts(t)) return;
  const float gate = gate_T[t];
  const float sum = dlogit_T[t] + (budget_S == nullptr ? 0.0F : budget_S[t / sequence]);
  dlogit_T[t] = blocks.position(t) == 0 ? 0.0F : sum * gate * (1.0F - gate);
}

/// ds of the block's tokens: each mean takes part in the gates of the document's later blocks.
__global__ void dscore_kernel(float* dscore_T, const float* dlogit_T, Blocks blocks) {
  const std::int64_t t = thread_index();
  if (!blocks.starts(t)) return;
  const std::int64_t end = blocks.end(t);
  float later = 0.0F;
  for (std::int64_t b = t + blocks.block; blocks.same_document(t, b); b += blocks.block) {
    later += dlogit_T[b] / static_cast<float>(blocks.position(b));
  }
  for (std::int64_t i = t; i < end; ++i) dscore_T[i] = later;
}

/// Block (columns, part of the tokens): dx += ds w, and the part's sum of ds x.
template <class Elem>
__global__ void __launch_bounds__(kThreads)
    input_kernel(Elem* dx_TD, float* dw_PD, const Elem* x_TD, const float* w_D,
                 const float* dscore_T, std::int64_t T, std::int64_t D, std::int64_t part_rows) {
  const std::int64_t d = thread_index();
  if (d >= D) return;
  const std::int64_t begin = blockIdx.y * part_rows;
  const std::int64_t end = begin + part_rows < T ? begin + part_rows : T;
  float dw = 0.0F;
  for (std::int64_t t = begin; t < end; ++t) {
    const float dscore = dscore_T[t];
    dw = fmaf(dscore, to_float(x_TD[t * D + d]), dw);
    dx_TD[t * D + d] = from_float<Elem>(fmaf(dscore, w_D[d], to_float(dx_TD[t * D + d])));
  }
  dw_PD[blockIdx.y * D + d] = dw;
}

/// One block: gradients of c and b0.
__global__ void __launch_bounds__(kThreads)
    dscalars_kernel(float* dscalars, const float* dlogit_T, Blocks blocks, bool add) {
  float dc = 0.0F, db = 0.0F;
  for (std::int64_t t = threadIdx.x; t < blocks.T; t += kThreads) {
    if (!blocks.starts(t)) continue;
    dc = fmaf(dlogit_T[t], blocks.length_feature(blocks.position(t)), dc);
    db += dlogit_T[t];
  }
  dc = block_sum(dc);
  db = block_sum(db);
  if (threadIdx.x != 0) return;
  dscalars[0] = add ? dscalars[0] + dc : dc;
  dscalars[1] = add ? dscalars[1] + db : db;
}

template <class Elem>
void launch_dgate(const Exec& exec, const HeadGateBackward& a, const Blocks& blocks,
                  float* dgate_T) {
  const std::int64_t C = a.out_TC.dim(1);
  const Elem* dout = device_data<Elem>(a.dout_TC);
  const Elem* out = device_data<Elem>(a.out_TC);
  with_width<Elem>(allows_vectors<Elem>(C / (a.groups / a.share.stride), dout, out), [&](auto n) {
    dgate_kernel<Elem, n.value><<<blocks_for(blocks.T, kWarps), kThreads, 0, exec.cuda().stream>>>(
        dgate_T, dout, out, device_data<float>(a.gate_T),
        device_data<std::int32_t>(a.active_groups_T), blocks, C, groups_of(a.groups, a.share));
  });
  check_launch();
}

/// From dgate of the tokens to dlogit of the blocks and dscore of the tokens.
void launch_dscore(const Exec& exec, const HeadGateBackward& a, const Blocks& blocks,
                   const HeadGateScratch& s) {
  const auto stream = exec.cuda().stream;
  const unsigned grid = blocks_for(blocks.T, kThreads);
  float* dlogit = device_data<float>(s.dlogit_T);
  const float* gate = device_data<float>(a.gate_T);
  float* budget = a.budget_scale.absent() ? nullptr : device_data<float>(s.budget_S);
  if (budget != nullptr) {
    budget_kernel<<<static_cast<unsigned>(blocks.T / a.sequence), kThreads, 0, stream>>>(
        budget, gate, device_data<float>(a.budget_scale), blocks, a.sequence, a.budget);
    check_launch();
  }
  block_sum_kernel<<<grid, kThreads, 0, stream>>>(dlogit, device_data<float>(s.dgate_T), blocks);
  check_launch();
  dlogit_kernel<<<grid, kThreads, 0, stream>>>(dlogit, budget, gate, blocks, a.sequence);
  check_launch();
  dscore_kernel<<<grid, kThreads, 0, stream>>>(device_data<float>(s.dscore_T), dlogit, blocks);
  check_launch();
}

template <class Elem>
void launch_input(const Exec& exec, const HeadGateBackward& a, const HeadGateScratch& s) {
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1);
  const dim3 grid{blocks_for(D, kThreads), static_cast<unsigned>(part_count(T))};
  input_kernel<Elem><<<grid, kThreads, 0, exec.cuda().stream>>>(
      device_data<Elem>(a.dx_TD), device_data<float>(s.dw_PD), device_data<Elem>(a.x_TD),
      device_data<float>(a.w_D), device_data<float>(s.dscore_T), T, D, part_size(T));
  check_launch();
}

}  // namespace

void head_gate_forward(const Exec& exec, const HeadGateForward& a) {
  const ScratchScope scope{exec};
  const TensorView sum_T = head_gate_block_sums(exec, a);
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1);
  const Blocks blocks{device_data<std::int32_t>(a.doc_start_T), T, a.block, a.max_position};
  const auto stream = exec.cuda().stream;
  float* score = device_data<float>(a.score_T);
  with_device_elem(a.x_TD.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Elem* x = device_data<Elem>(a.x_TD);
    with_width<Elem>(allows_vectors<Elem>(D, x), [&](auto n) {
      score_kernel<Elem, n.value><<<blocks_for(T, kWarps), kThreads, 0, stream>>>(
          score, x, device_data<float>(a.w_D), T, D);
    });
  });
  check_launch();
  const unsigned grid = blocks_for(T, kThreads);
  block_sum_kernel<<<grid, kThreads, 0, stream>>>(device_data<float>(sum_T), score, blocks);
  check_launch();
  const GateOutputs out{.gate_T = device_data<float>(a.gate_T),
                        .active_T = device_data<std::int32_t>(a.active_groups_T)};
  gate_kernel<<<grid, kThreads, 0, stream>>>(out, device_data<float>(sum_T),
                                             device_data<float>(a.scalars), blocks,
                                             groups_of(a.groups, a.share));
  check_launch();
}

void head_gate_backward(const Exec& exec, const HeadGateBackward& a) {
  const ScratchScope scope{exec};
  const HeadGateScratch s = head_gate_scratch(exec, a);
  const std::int64_t T = a.x_TD.dim(0);
  const Blocks blocks{device_data<std::int32_t>(a.doc_start_T), T, a.block, a.max_position};
  if (T > 0) {
    with_device_elem(a.x_TD.dtype(), [&](auto elem) {
      using Elem = decltype(elem);
      launch_dgate<Elem>(exec, a, blocks, device_data<float>(s.dgate_T));
      launch_dscore(exec, a, blocks, s);
      launch_input<Elem>(exec, a, s);
    });
  }
  cuda::sum_parts(exec, a.dw_D, s.dw_PD, a.accumulate);
  dscalars_kernel<<<1, kThreads, 0, exec.cuda().stream>>>(device_data<float>(a.dscalars),
                                                          device_data<float>(s.dlogit_T), blocks,
                                                          a.accumulate == Accumulate::add);
  check_launch();
}

}  // namespace shoal::ops::cuda
