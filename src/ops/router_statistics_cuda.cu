#include "ops/cuda_common.cuh"
#include "ops/router_detail.hpp"

// Two stages in fixed order: a block sums one chunk of a group's tokens, then chunks are added.
namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kChunk = static_cast<int>(kStatisticsChunk);

struct Tokens {
  const std::int32_t* index_TK;
  const float* score_TE;
  const float* logits_TE;
  int E, K;
  bool softmax;
};
struct Partials {
  float* score_CE;
  std::int32_t* count_CE;
  float* sums_C2;
};

/// Of one token, on every lane: the factor that makes its scores sum to one, their entropy, and
/// logsumexp(logits)^2.
struct TokenSums {
  float factor, entropy, z;
};
__device__ TokenSums token_sums(const Tokens& a, std::int64_t t) {
  const float* score_E = a.score_TE + t * a.E;
  const float* logits_E = a.logits_TE + t * a.E;
  const int lane = threadIdx.x % kWarpSize;
  float sum = 0.0F, top = -INFINITY;
  for (int e = lane; e < a.E; e += kWarpSize) {
    sum += score_E[e];
    top = fmaxf(top, logits_E[e]);
  }
  const float factor = a.softmax ? 1.0F : 1.0F / (warp_sum(sum) + kTinyScore);
  top = warp_max(top);
  float entropy = 0.0F, exponentials = 0.0F;
  for (int e = lane; e < a.E; e += kWarpSize) {
    const float p = score_E[e] * factor;
    if (p > 0.0F) entropy -= p * logf(p);
    exponentials += expf(logits_E[e] - top);
  }
  const float lse = top + logf(warp_sum(exponentials));
  return {factor, warp_sum(entropy), lse * lse};
}

/// Block (chunk, group); shared memory holds E counters.
__global__ void __launch_bounds__(kThreads)
    chunk_kernel(Partials out, Tokens a, std::int64_t group_tokens) {
  extern __shared__ std::int32_t count_E[];
  __shared__ TokenSums sums[kChunk];
  const std::int64_t begin = std::int64_t{blockIdx.x} * kChunk;
  const std::int64_t left = group_tokens - begin;
  const int tokens = left < kChunk ? static_cast<int>(left) : kChunk;
  const std::int64_t first = blockIdx.y * group_tokens + begin;
  const std::int64_t c = std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  for (int e = threadIdx.x; e < a.E; e += kThreads) count_E[e] = 0;
  for (int i = threadIdx.x / kWarpSize; i < tokens; i += kWarps) {
    const TokenSums s = token_sums(a, first + i);
    if (threadIdx.x % kWarpSize == 0) sums[i] = s;
  }
  __syncthreads();
  // Integer additions: the order in which threads arrive does not show.
  for (int i = threadIdx.x; i < tokens * a.K; i += kThreads) {
    atomicAdd(&count_E[a.index_TK[first * a.K + i]], 1);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < a.E; e += kThreads) {
    float sum = 0.0F;
    for (int i = 0; i < tokens; ++i) sum += a.score_TE[(first + i) * a.E + e] * sums[i].factor;
    out.score_CE[c * a.E + e] = sum;
    out.count_CE[c * a.E + e] = count_E[e];
  }
  if (threadIdx.x != 0) return;
  float entropy = 0.0F, z = 0.0F;
  for (int i = 0; i < tokens; ++i) {
    entropy += sums[i].entropy;
    z += sums[i].z;
  }
  out.sums_C2[2 * c] = entropy;
  out.sums_C2[2 * c + 1] = z;
}

struct Totals {
  std::int32_t* count_SE;
  float* mean_SE;
  float* entropy_sum;
  float* z_sum;
  Partials in;
  int E;
  std::int64_t groups, chunks, tokens;  ///< chunks and tokens of a group
};

/// Entropy and z of all chunks, by one block.
__device__ void add_sums(const Totals& a) {
  float entropy = 0.0F, z = 0.0F;
  for (std::int64_t c = threadIdx.x; c < a.groups * a.chunks; c += kThreads) {
    entropy += a.in.sums_C2[2 * c];
    z += a.in.sums_C2[2 * c + 1];
  }
  entropy = block_sum(entropy);
  z = block_sum(z);
  if (threadIdx.x == 0) {
    a.entropy_sum[0] = entropy;
    a.z_sum[0] = z;
  }
}

/// Thread (expert, group) adds the group's chunks in order; the blocks beyond the groups add the
/// sums over all tokens.
__global__ void __launch_bounds__(kThreads) totals_kernel(Totals a) {
  const std::int64_t s = blockIdx.y;
  if (s == a.groups) {
    if (blockIdx.x == 0) add_sums(a);
    return;
  }
  const auto e = static_cast<int>(thread_index());
  if (e >= a.E) return;
  float sum = 0.0F;
  std::int32_t count = 0;
#pragma unroll 8
  for (std::int64_t c = s * a.chunks; c < (s + 1) * a.chunks; ++c) {
    sum += a.in.score_CE[c * a.E + e];
    count += a.in.count_CE[c * a.E + e];
  }
  a.count_SE[s * a.E + e] = count;
  a.mean_SE[s * a.E + e] = a.tokens == 0 ? 0.0F : sum / static_cast<float>(a.tokens);
}

Partials partials_of(const RouterChunkSums& chunks) {
  return {.score_CE = device_data<float>(chunks.score_SCE),
          .count_CE = device_data<std::int32_t>(chunks.count_SCE),
          .sums_C2 = device_data<float>(chunks.sums_SC2)};
}

}  // namespace

void router_chunk_sums(const Exec& exec, const RouterStatistics& a) {
  const std::int64_t S = a.chunks.groups();
  const int E = static_cast<int>(a.score_TE.dim(1));
  const Tokens input{.index_TK = device_data<std::int32_t>(a.index_TK),
                     .score_TE = device_data<float>(a.score_TE),
                     .logits_TE = device_data<float>(a.logits_TE),
                     .E = E,
                     .K = static_cast<int>(a.index_TK.dim(1)),
                     .softmax = a.score == RouterScore::softmax};
  const dim3 grid{static_cast<unsigned>(a.chunks.chunks()), static_cast<unsigned>(S)};
  chunk_kernel<<<grid, kThreads, sizeof(std::int32_t) * E, exec.cuda().stream>>>(
      partials_of(a.chunks), input, a.index_TK.dim(0) / S);
  check_launch();
}

void router_statistics(const Exec& exec, const RouterStatistics& a) {
  const std::int64_t S = a.count_SE.dim(0);
  const int E = static_cast<int>(a.count_SE.dim(1));
  const dim3 grid{blocks_for(E, kThreads), static_cast<unsigned>(S + 1)};
  totals_kernel<<<grid, kThreads, 0, exec.cuda().stream>>>(
      {.count_SE = device_data<std::int32_t>(a.count_SE),
       .mean_SE = device_data<float>(a.mean_score_SE),
       .entropy_sum = device_data<float>(a.entropy_sum),
       .z_sum = device_data<float>(a.z_sum),
       .in = partials_of(a.chunks),
       .E = E,
       .groups = S,
       .chunks = a.chunks.chunks(),
       .tokens = a.index_TK.dim(0) / S});
  check_launch();
}

}  // namespace shoal::ops::cuda
