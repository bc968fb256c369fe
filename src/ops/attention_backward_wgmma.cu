// Backward attention on warpgroup products: the kernel that prepares what tiles of queries need,
// then the one that does the work (hopper/attention_backward_kernel.cuh).
#include "ops/hopper/attention_backward_kernel.cuh"

namespace shoal::ops::cuda {
namespace {

using hopper::BackwardArgs;
using hopper::BackwardMaps;
using hopper::BackwardPlan;
using hopper::BackwardScratch;
using hopper::BackwardShared;
using hopper::QueryTile;

constexpr int kPrepareThreads = 256;

/// <dout, out> of the rows at one place of eight columns a lane; lanes of a row get its sum.
template <int kLanes, class Elem>
__device__ float row_dot(const Elem* dout, const Elem* out, int lane) {
  const Vec<float, 8> a = load_floats<8>(dout + lane * 8), b = load_floats<8>(out + lane * 8);
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += a.v[i] * b.v[i];
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  return sum;
}

/// What a tile of queries says about itself; its additions start anew.
__device__ void describe_tile(const BackwardScratch& scratch, const TokenRules& rules,
                              std::int64_t pair, int key_tiles, int first_token, int queries,
                              bool active) {
  const int last = min(first_token + queries, rules.tokens) - 1;
  scratch.tile[pair] = QueryTile{.active = active ? 1 : 0,
                                 .first_key = rules.doc_start[first_token],
                                 .last_start = rules.doc_start[last]};
  scratch.turn[pair] = 0;
  if (pair < key_tiles) scratch.part[pair] = 0;
  if (pair == 0) *scratch.ticket = 0;
}

/// One block for a tile of queries (x) of a head (y). Inactive tiles of dq become zeros here; the
/// main kernel does not visit them. Rows beyond the last token get no probability.
template <class P>
__global__ void __launch_bounds__(kPrepareThreads)
    prepare_kernel(const BackwardArgs<P> args, const HeadData<const typename P::Elem> out) {
  constexpr int kLanes = P::kHeadDim / 8, kRowsAtOnce = kPrepareThreads / kLanes;
  const auto& call = args.call;
  const TokenRules& rules = call.rules;
  const int head = static_cast<int>(blockIdx.y), group = head / (call.heads / call.groups);
  const int first_token = static_cast<int>(blockIdx.x) * P::kQueries;
  const std::int64_t pair = std::int64_t{head} * args.query_tiles + blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes;
  const bool mine = thread < P::kQueries && first_token + thread < rules.tokens &&
                    rules.active(first_token + thread, group);
  const bool active = __syncthreads_or(mine ? 1 : 0) != 0;
  if (thread == 0) {
    const int split_tiles = args.parts > 1 ? args.key_tiles * call.groups : 0;
    describe_tile(args.scratch, rules, pair, split_tiles, first_token, P::kQueries, active);
  }
  float* rows = args.scratch.rows + pair * P::kRowFloats;
#pragma unroll
  for (int row = thread / kLanes; row < P::kQueries; row += kRowsAtOnce) {
    const int t = first_token + row;
    const bool valid = t < rules.tokens;
    if (!active) {
      if (valid) *reinterpret_cast<uint4*>(call.dq.row(head, t) + lane * 8) = uint4{};
      continue;
    }
    const int safe = min(t, rules.tokens - 1);
    const float delta = row_dot<kLanes>(call.dout.row(head, safe), out.row(head, safe), lane);
    if (lane != 0) continue;
    rows[row] = valid ? call.lse[std::int64_t{head} * rules.tokens + t] * kLog2E : INFINITY;
    rows[P::kQueries + row] = valid ? delta : 0.0F;
    reinterpret_cast<int*>(rows)[2 * P::kQueries + row] = rules.doc_start[safe];
  }
}

CUtensorMap map_of(const ConstHeads& heads, int box_rows) {
  return hopper::make_tensor_map({.data = heads.rows.bytes_begin(),
                                  .dtype = heads.rows.dtype(),
                                  .matrices = 1,
                                  .rows = heads.rows.dim(0),
                                  .columns = heads.rows.dim(1),
                                  .box_rows = box_rows});
}

template <class P>
void launch(const Exec& exec, const AttentionBackward& a,
            const BackwardCall<typename P::Elem>& call, float* scratch) {
  const std::int64_t tokens = a.q.rows.dim(0), query_tiles = ceil_div(tokens, P::kQueries);
  const std::int64_t key_tiles = ceil_div(tokens, P::kKeys);
  const int parts = backward_parts(tokens, a.q.heads, a.k.heads);
  const std::int64_t split_tiles = parts > 1 ? key_tiles * a.k.heads : 0;
  const BackwardArgs<P> args{
      .call = call,
      .scratch = BackwardScratch::at<P>(scratch, a.q.heads * query_tiles, split_tiles),
      .key_column = static_cast<int>(a.k.first),
      .value_column = static_cast<int>(a.v.first),
      .query_column = static_cast<int>(a.q.first),
      .dout_column = static_cast<int>(a.dout.first),
      .key_tiles = static_cast<int>(key_tiles),
      .query_tiles = static_cast<int>(query_tiles),
      .parts = parts};
  const cudaStream_t stream = exec.cuda().stream;
  const dim3 pairs{static_cast<unsigned>(query_tiles), static_cast<unsigned>(a.q.heads)};
  prepare_kernel<P>
      <<<pairs, kPrepareThreads, 0, stream>>>(args, head_data<typename P::Elem>(a.out));
  check_launch();
  const BackwardMaps maps{.query = map_of(a.q, P::kQueries),
                          .dout = map_of(a.dout, P::kQueries),
                          .key = map_of(a.k, P::kKeys),
                          .value = map_of(a.v, P::kKeys)};
  const auto kernel = &hopper::attention_backward_kernel<P>;
  constexpr std::size_t bytes = sizeof(BackwardShared<P>);
  static_assert(bytes <= 232448);
  allow_shared(kernel, bytes);
  const unsigned blocks = blocks_for(key_tiles * a.k.heads * parts, 1, exec.cuda().multiprocessors);
  kernel<<<blocks, P::kThreads, bytes, stream>>>(args, maps);
  check_launch();
}

}  // namespace

template <class Elem>
void launch_backward_wgmma(const Exec& exec, const AttentionBackward& args,
                           const BackwardCall<Elem>& call, float* scratch) {
  if (call.q.head_dim == 64) {
    launch<BackwardPlan<Elem, 64>>(exec, args, call, scratch);
  } else {
    launch<BackwardPlan<Elem, 128>>(exec, args, call, scratch);
  }
}
template void launch_backward_wgmma(const Exec&, const AttentionBackward&,
                                    const BackwardCall<__nv_bfloat16>&, float*);
template void launch_backward_wgmma(const Exec&, const AttentionBackward&,
                                    const BackwardCall<__half>&, float*);

}  // namespace shoal::ops::cuda
