#include "ops/hopper/attention_forward_kernel.cuh"

namespace shoal::ops::cuda {
namespace {

/// Query heads whose keys and values of a window of tokens take about half of the L2 cache.
int heads_at_once(const AttentionForward& a, int tile_rows) {
  constexpr std::int64_t kBytes = std::int64_t{24} << 20;
  const std::int64_t tokens =
      std::min<std::int64_t>(a.q.rows.dim(0), std::int64_t{hopper::kWindowTiles} * tile_rows);
  const std::int64_t group_bytes = tokens * a.q.head_dim * 2 * 2;
  const std::int64_t groups = std::clamp<std::int64_t>(kBytes / group_bytes, 1, a.k.heads);
  return static_cast<int>(groups * (a.q.heads / a.k.heads));
}

template <class Plan>
void launch(const Exec& exec, const ForwardCall<typename Plan::Elem>& call,
            const AttentionForward& a, int* words) {
  hopper::QueryOrder order =
      hopper::order_queries(exec, words, call.rules, call.heads, Plan::kRows);
  order.heads_at_once = heads_at_once(a, Plan::kRows);
  const hopper::ForwardArgs<typename Plan::Elem> args{.call = call,
                                                      .order = order,
                                                      .q = hopper::head_columns(a.q),
                                                      .k = hopper::head_columns(a.k),
                                                      .v = hopper::head_columns(a.v)};
  const std::size_t bytes = hopper::ForwardShared<Plan>::bytes();
  const auto kernel = &hopper::attention_forward_wgmma_kernel<Plan>;
  allow_shared(kernel, bytes);
  const unsigned blocks =
      blocks_for(std::int64_t{order.tiles} * order.heads, 1, exec.cuda().multiprocessors);
  kernel<<<blocks, Plan::kThreads, bytes, exec.cuda().stream>>>(
      args, hopper::map_of_heads(a.q, Plan::kRows), hopper::map_of_heads(a.k, Plan::kKeys),
      hopper::map_of_heads(a.v, Plan::kKeys));
  check_launch();
}

}  // namespace

template <class Elem>
void launch_forward_wgmma(const Exec& exec, const ForwardCall<Elem>& call,
                          const AttentionForward& args, int* words) {
  if (call.q.head_dim == 64) {
    launch<hopper::ForwardPlan<Elem, 64>>(exec, call, args, words);
  } else {
    launch<hopper::ForwardPlan<Elem, 128>>(exec, call, args, words);
  }
}
template void launch_forward_wgmma(const Exec&, const ForwardCall<__nv_bfloat16>&,
                                   const AttentionForward&, int*);
template void launch_forward_wgmma(const Exec&, const ForwardCall<__half>&, const AttentionForward&,
                                   int*);

}  // namespace shoal::ops::cuda
