// Gradients of keys and values for bf16 and f16. A block holds 64 keys of one group and walks the
// queries that may see them, over all query heads of the group: no other block adds to its sums,
// so no atomics. Scores are computed transposed, so that a warp keeps 16 keys and its
// probabilities are the left operand of dv += P^T dout and dk += dS^T q in registers.
#include "ops/attention_mma.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kKeys = 64;

/// Sizes for head dimension D. Beyond 128 two warps share 16 keys, each with half of the columns.
template <class Elem, int D>
struct Sizes {
  static constexpr int kColumnParts = D > 128 ? 2 : 1;
  static constexpr int kColumns = D / kColumnParts;
  static constexpr int kThreads = 128 * kColumnParts;
  static constexpr int kQueries = D <= 64 ? 64 : 32;
  static constexpr int kKeyElements = kKeys * kTilePitch<D>;
  static constexpr int kQueryElements = kQueries * kTilePitch<D>;
  static constexpr std::size_t kTileBytes = (2 * kKeyElements + 4 * kQueryElements) * sizeof(Elem);
  static constexpr std::size_t kBytes = kTileBytes + 2 * 3 * kQueries * sizeof(float);
};

/// Tiles of queries that see the block's keys and have the group active, head by head.
template <int kQueries>
struct QueryWalk {
  const TokenRules& rules;
  int group, key0, last_key, head, end_head, t0;

  [[nodiscard]] __device__ bool done() const { return head == end_head; }
  __device__ void next() {
    t0 += kQueries;
    settle();
  }
  /// Forward to the first tile with work, from the current one on.
  __device__ void settle() {
    while (head < end_head) {
      if (t0 >= rules.tokens || rules.doc_start[t0] > last_key) {
        ++head;
        t0 = key0;
      } else if (rules.any_active(t0, min(kQueries, rules.tokens - t0), group)) {
        return;
      } else {
        t0 += kQueries;
      }
    }
  }
};

/// One of two stages of query tiles with their row statistics.
template <class Elem, int D>
struct QueryStage {
  using S = Sizes<Elem, D>;
  HeadTile<Elem, D> query, dout;
  float *lse, *delta;
  int* doc_start;

  __device__ QueryStage(unsigned char* shared, int stage)
      : query{reinterpret_cast<Elem*>(shared) + 2 * S::kKeyElements +
              stage * 2 * S::kQueryElements},
        dout{query.data + S::kQueryElements},
        lse{reinterpret_cast<float*>(shared + S::kTileBytes) + stage * 3 * S::kQueries},
        delta{lse + S::kQueries},
        doc_start{reinterpret_cast<int*>(delta + S::kQueries)} {}

  /// Rows beyond the last token become zeros, and so does what they add.
  __device__ void load(const BackwardCall<Elem>& call, int head, int t0) const {
    const int tokens = call.rules.tokens;
    load_tile<S::kQueries, S::kThreads>(query, call.q, head, t0, tokens, call.vectors);
    load_tile<S::kQueries, S::kThreads>(dout, call.dout, head, t0, tokens, call.vectors);
    const int i = static_cast<int>(threadIdx.x);
    if (i < S::kQueries) {
      const bool valid = t0 + i < tokens;
      const std::int64_t at = valid ? std::int64_t{head} * tokens + t0 + i : 0;
      copy_word_async(lse + i, call.lse + at, valid);
      copy_word_async(delta + i, call.delta + at, valid);
      copy_word_async(doc_start + i, call.rules.doc_start + (valid ? t0 + i : 0), valid);
    }
  }
};

/// Transposed scores to probabilities, transposed dP to dS / scale, for keys `key` and `key` + 8.
template <class Elem, int D>
__device__ void differentiate(FragmentC (&p)[Sizes<Elem, D>::kQueries / 8],
                              FragmentC (&ds)[Sizes<Elem, D>::kQueries / 8],
                              const QueryStage<Elem, D>& stage, float scale, int t0, int key) {
#pragma unroll
  for (int j = 0; j < Sizes<Elem, D>::kQueries / 8; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int query = j * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + e % 2;
      const int mine = key + e / 2 * 8;
      const bool visible = stage.doc_start[query] <= mine && mine <= t0 + query;
      const float power = exp2_fast(p[j].r[e] * scale * kLog2E - stage.lse[query] * kLog2E);
      p[j].r[e] = visible ? power : 0.0F;
      ds[j].r[e] = p[j].r[e] * (ds[j].r[e] - stage.delta[query]);
    }
  }
}

template <class Elem, int D>
__global__ void __launch_bounds__(Sizes<Elem, D>::kThreads)
    key_gradient_kernel(const BackwardCall<Elem> call) {
  using S = Sizes<Elem, D>;
  extern __shared__ __align__(16) unsigned char shared[];
  const HeadTile<Elem, D> key{reinterpret_cast<Elem*>(shared)};
  const HeadTile<Elem, D> value{key.data + S::kKeyElements};
  const int tokens = call.rules.tokens;
  const int key0 = static_cast<int>(blockIdx.x) * kKeys, group = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int row = warp % 4 * kRowsPerWarp, column = warp / 4 * S::kColumns;
  const int heads = call.heads / call.groups;
  QueryWalk<S::kQueries> walk{
      call.rules,          group, key0, min(key0 + kKeys, tokens) - 1, group * heads,
      (group + 1) * heads, key0};
  walk.settle();
  if (!walk.done()) {
    load_tile<kKeys, S::kThreads>(key, call.k, group, key0, tokens, call.vectors);
    load_tile<kKeys, S::kThreads>(value, call.v, group, key0, tokens, call.vectors);
    QueryStage<Elem, D>{shared, 0}.load(call, walk.head, walk.t0);
  }
  commit_copies();
  FragmentC dkey[S::kColumns / 8] = {}, dvalue[S::kColumns / 8] = {};
  for (int stage = 0; !walk.done(); stage ^= 1) {
    const int t0 = walk.t0;
    walk.next();
    if (!walk.done()) QueryStage<Elem, D>{shared, stage ^ 1}.load(call, walk.head, walk.t0);
    commit_copies();
    wait_copies<1>();
    __syncthreads();  // this stage is there
    const QueryStage<Elem, D> now{shared, stage};
    FragmentC p[S::kQueries / 8], ds[S::kQueries / 8];
    multiply_rows<D, S::kQueries>(p, key, row, now.query, lane);
    multiply_rows<D, S::kQueries>(ds, value, row, now.dout, lane);
    differentiate<Elem, D>(p, ds, now, call.scale, t0, key0 + row + lane / 4);
    add_weighted<D, S::kQueries, S::kColumns>(dvalue, p, now.dout, column, lane);
    add_weighted<D, S::kQueries, S::kColumns>(dkey, ds, now.query, column, lane);
    __syncthreads();  // and free again
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = key0 + row + lane / 4 + half * 8;
    if (t >= tokens) continue;
    const int left = call.dk.head_dim - column;
    store_row<S::kColumns>(call.dk.row(group, t) + column, dkey, half, call.scale, left, lane,
                           call.vectors);
    store_row<S::kColumns>(call.dv.row(group, t) + column, dvalue, half, 1.0F, left, lane,
                           call.vectors);
  }
}

}  // namespace

template <class Elem>
void launch_key_gradient_mma(const Exec& exec, const BackwardCall<Elem>& call) {
  with_head_dim(call.q.head_dim, [&](auto dim) {
    using S = Sizes<Elem, decltype(dim)::value>;
    const auto kernel = &key_gradient_kernel<Elem, decltype(dim)::value>;
    allow_shared(kernel, S::kBytes);
    const dim3 grid{blocks_for(call.rules.tokens, kKeys), static_cast<unsigned>(call.groups)};
    kernel<<<grid, S::kThreads, S::kBytes, exec.cuda().stream>>>(call);
    check_launch();
  });
}
template void launch_key_gradient_mma(const Exec&, const BackwardCall<__nv_bfloat16>&);
template void launch_key_gradient_mma(const Exec&, const BackwardCall<__half>&);

}  // namespace shoal::ops::cuda
