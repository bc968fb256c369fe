#include <climits>

#include "ops/router_detail.hpp"
#include "ops/router_lanes.cuh"

// A block routes one chunk of up to 64 tokens of a group, a few or all of them at a time: scores in
// registers, the choice, and where asked for the sums over the chunk that the statistics begin
// with.
namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = static_cast<int>(kStatisticsChunk);
constexpr int kMostExperts = 512;

struct ForwardArgs {
  std::int32_t* index_TK;
  float* weight_TK;
  float* score_TE;
  const float* logits_TE;
  const float* bias_E;
  float* chunk_score;  ///< [S, chunks, E]; null: no sums over chunks
  std::int32_t* chunk_count;
  float* chunk_sums;
  std::int64_t tokens;  ///< of a group
  int E, K;
  bool softmax, normalise;
  float scaling;
};

/// The block's shared memory for P tokens at a time: the chosen experts and their scores; for sums
/// over the chunk all scores, normalised to sum one, entropy and logsumexp^2, and how often each
/// expert was chosen.
struct Shared {
  int pitch;
  float* score_PE;
  float* chosen_PK;
  std::int32_t* index_PK;
  float* entropy_P;
  float* z_P;
  std::int32_t* count_E;

  /// Rows of 16-byte units that lie in different banks.
  [[nodiscard]] static __host__ __device__ int pitch_of(int E, bool sums) {
    return sums ? (E + 3) / 4 * 4 + 16 : 0;
  }
  [[nodiscard]] static std::size_t bytes(int P, int E, int K, bool sums) {
    return sizeof(float) * static_cast<std::size_t>(P * (pitch_of(E, sums) + 2 * K + 2) + E);
  }
  __device__ Shared(float* raw, int P, int E, int K, bool sums)
      : pitch{pitch_of(E, sums)},
        score_PE{raw},
        chosen_PK{score_PE + P * pitch},
        index_PK{reinterpret_cast<std::int32_t*>(chosen_PK + P * K)},
        entropy_P{chosen_PK + 2 * P * K},
        z_P{entropy_P + P},
        count_E{reinterpret_cast<std::int32_t*>(z_P + P)} {}
};

/// Logits to scores; entries beyond E hold -inf and become 0.
template <class L>
__device__ void score_row(typename L::Row& x, bool softmax) {
  if (softmax) {
    const float top = L::row_max(x);
#pragma unroll
    for (int i = 0; i < L::kEach; ++i) x[i] = expf(x[i] - top);
    const float sum = L::row_sum(x);
#pragma unroll
    for (int i = 0; i < L::kEach; ++i) x[i] /= sum;
  } else {
#pragma unroll
    for (int i = 0; i < L::kEach; ++i) x[i] = 1.0F / (1.0F + expf(-x[i]));
  }
}

constexpr int kTaken = INT_MIN;  // below every key

/// Integers in the order of floats; NaN ranks last.
__device__ int sort_key(float x) {
  const int bits = __float_as_int(isnan(x) ? -INFINITY : x + 0.0F);  // no negative zero
  return bits < 0 ? bits ^ INT_MAX : bits;
}

/// The expert with the largest key among the lanes of a token; ties: the lowest.
template <class L>
__device__ int best_expert(const int (&keys)[L::kEach]) {
  int key[L::kEach], expert[L::kEach];
#pragma unroll
  for (int i = 0; i < L::kEach; ++i) {
    key[i] = keys[i];
    expert[i] = L::expert(i);
  }
#pragma unroll
  for (int step = 1; step < L::kEach; step *= 2) {
#pragma unroll
    for (int i = 0; i + step < L::kEach; i += 2 * step) {
      const bool later = key[i + step] > key[i];
      key[i] = later ? key[i + step] : key[i];
      expert[i] = later ? expert[i + step] : expert[i];
    }
  }
#pragma unroll
  for (int offset = L::kLanes / 2; offset > 0; offset /= 2) {
    const int other = __shfl_xor_sync(kFullWarp, key[0], offset);
    const int at = __shfl_xor_sync(kFullWarp, expert[0], offset);
    const bool better = other > key[0] || (other == key[0] && at < expert[0]);
    key[0] = better ? other : key[0];
    expert[0] = better ? at : expert[0];
  }
  return expert[0];
}

/// The K best experts of a token in descending order, with their scores.
template <class L>
__device__ void choose(float* chosen_K, std::int32_t* index_K, const typename L::Row& score,
                       const ForwardArgs& a) {
  int key[L::kEach];
#pragma unroll
  for (int i = 0; i < L::kEach; ++i) {
    const int e = L::expert(i);
    const float bias = a.bias_E != nullptr && e < a.E ? a.bias_E[e] : 0.0F;
    key[i] = e < a.E ? sort_key(score[i] + bias) : kTaken;
  }
  for (int k = 0; k < a.K; ++k) {
    const int best = best_expert<L>(key);
#pragma unroll
    for (int i = 0; i < L::kEach; ++i) {
      if (L::expert(i) != best) continue;
      key[i] = kTaken;
      chosen_K[k] = score[i];
      index_K[k] = best;
    }
  }
}

/// What a token adds to the sums over its chunk.
template <class L>
__device__ void keep_for_sums(const Shared& shared, int p, const typename L::Row& score, float lse,
                              const ForwardArgs& a) {
  const float factor = a.softmax ? 1.0F : 1.0F / (L::row_sum(score) + kTinyScore);
  typename L::Row normalised;
  float entropy = 0.0F;
#pragma unroll
  for (int i = 0; i < L::kEach; ++i) {
    const float q = L::expert(i) < a.E ? score[i] * factor : 0.0F;
    normalised[i] = q;
    if (q > 0.0F) entropy -= q * logf(q);
  }
  entropy = L::all_sum(entropy);
  L::store(shared.score_PE + p * shared.pitch, normalised, a.E);
  if (L::lane() != 0) return;
  shared.entropy_P[p] = entropy;
  shared.z_P[p] = lse * lse;
}

/// Routes tokens [first, first + count), one on each group of lanes.
template <class L>
__device__ void route(const Shared& shared, const ForwardArgs& a, std::int64_t first, int count) {
  const int p = static_cast<int>(threadIdx.x) / L::kLanes;
  const bool real = p < count;  // the other lanes take part in exchanges
  const std::int64_t t = first + (real ? p : 0);
  typename L::Row score;
  L::load(score, a.logits_TE + t * a.E, a.E, -INFINITY);
  const bool sums = a.chunk_score != nullptr;
  const float lse = sums ? L::logsumexp(score) : 0.0F;
  score_row<L>(score, a.softmax);
  if (real) L::store(a.score_TE + t * a.E, score, a.E);
  choose<L>(shared.chosen_PK + p * a.K, shared.index_PK + p * a.K, score, a);
  if (sums) keep_for_sums<L>(shared, p, score, lse, a);
}

/// Stores the choice of `count` tokens and counts it.
__device__ void store_choice(const Shared& shared, const ForwardArgs& a, std::int64_t first,
                             int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count * a.K; i += kThreads) {
    const float* chosen_K = shared.chosen_PK + i / a.K * a.K;
    float sum = 0.0F;
    for (int k = 0; k < a.K; ++k) sum += chosen_K[k];
    sum = a.normalise ? sum + kTinyScore : 1.0F;
    const std::int32_t expert = shared.index_PK[i];
    a.index_TK[first * a.K + i] = expert;
    a.weight_TK[first * a.K + i] = a.scaling * (shared.chosen_PK[i] / sum);
    // Integer additions: the order in which threads arrive does not show.
    if (a.chunk_score != nullptr) atomicAdd(&shared.count_E[expert], 1);
  }
}

/// Of a chunk, in registers: thread e sums the scores of experts e and e + kThreads, the first
/// threads of two warps entropy and z.
struct ChunkSum {
  float score[kMostExperts / kThreads] = {};
  float entropy_z = 0.0F;

  __device__ void add(const Shared& shared, int E, int count) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kMostExperts / kThreads; ++i) {
      const int e = thread + i * kThreads;
#pragma unroll 8
      for (int p = 0; p < count && e < E; ++p) score[i] += shared.score_PE[p * shared.pitch + e];
    }
    if (thread % kWarpSize != 0 || thread > kWarpSize) return;
    const float* x_P = thread == 0 ? shared.entropy_P : shared.z_P;
#pragma unroll 8
    for (int p = 0; p < count; ++p) entropy_z += x_P[p];
  }
  __device__ void store(const Shared& shared, const ForwardArgs& a, std::int64_t chunk) const {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kMostExperts / kThreads; ++i) {
      const int e = thread + i * kThreads;
      if (e >= a.E) continue;
      a.chunk_score[chunk * a.E + e] = score[i];
      a.chunk_count[chunk * a.E + e] = shared.count_E[e];
    }
    if (thread == 0 || thread == kWarpSize) {
      a.chunk_sums[2 * chunk + thread / kWarpSize] = entropy_z;
    }
  }
};

/// Block (chunk, group).
template <class L>
__global__ void __launch_bounds__(kThreads) forward_kernel(ForwardArgs a) {
  extern __shared__ float4 raw[];
  constexpr int kAtOnce = kThreads / L::kLanes;
  const bool sums = a.chunk_score != nullptr;
  const Shared shared{reinterpret_cast<float*>(raw), kAtOnce, a.E, a.K, sums};
  const std::int64_t begin = std::int64_t{blockIdx.x} * kChunk;
  const std::int64_t end = min(begin + kChunk, a.tokens);
  ChunkSum sum;
  for (int e = static_cast<int>(threadIdx.x); e < a.E; e += kThreads) shared.count_E[e] = 0;
  for (std::int64_t at = begin; at < end; at += kAtOnce) {
    const std::int64_t first = blockIdx.y * a.tokens + at;
    const int count = static_cast<int>(min(std::int64_t{kAtOnce}, end - at));
    route<L>(shared, a, first, count);
    __syncthreads();
    store_choice(shared, a, first, count);
    if (sums) sum.add(shared, a.E, count);
    __syncthreads();
  }
  if (sums) sum.store(shared, a, std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x);
}

template <class L>
void launch(const Exec& exec, const ForwardArgs& args, unsigned groups) {
  constexpr std::size_t kUsual = 48 * 1024;
  const bool sums = args.chunk_score != nullptr;
  const std::size_t bytes = Shared::bytes(kThreads / L::kLanes, args.E, args.K, sums);
  const auto kernel = &forward_kernel<L>;
  if (bytes > kUsual) {
    shoal::cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(bytes)));
  }
  const dim3 grid{blocks_for(args.tokens, kChunk), groups};
  kernel<<<grid, kThreads, bytes, exec.cuda().stream>>>(args);
  check_launch();
}

}  // namespace

void router_forward(const Exec& exec, const RouterForward& a) {
  const bool sums = !a.chunks.absent();
  const std::int64_t groups = sums ? a.chunks.groups() : 1;
  const ForwardArgs args{
      .index_TK = device_data<std::int32_t>(a.index_TK),
      .weight_TK = device_data<float>(a.weight_TK),
      .score_TE = device_data<float>(a.score_TE),
      .logits_TE = device_data<float>(a.logits_TE),
      .bias_E = device_data<float>(a.bias_E),
      .chunk_score = sums ? device_data<float>(a.chunks.score_SCE) : nullptr,
      .chunk_count = sums ? device_data<std::int32_t>(a.chunks.count_SCE) : nullptr,
      .chunk_sums = sums ? device_data<float>(a.chunks.sums_SC2) : nullptr,
      .tokens = a.logits_TE.dim(0) / groups,
      .E = static_cast<int>(a.logits_TE.dim(1)),
      .K = static_cast<int>(a.index_TK.dim(1)),
      .softmax = a.score == RouterScore::softmax,
      .normalise = a.normalise,
      .scaling = a.scaling};
  with_lanes(args.E, [&](auto lanes) {
    launch<decltype(lanes)>(exec, args, static_cast<unsigned>(groups));
  });
}

}  // namespace shoal::ops::cuda
