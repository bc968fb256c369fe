#include "ops/hopper/attention_forward_kernel.cuh"

namespace shoal::ops::cuda {
namespace {

template <class Plan>
void launch(const Exec& exec, const ForwardCall<typename Plan::Elem>& call,
            const AttentionForward& a, int* words) {
  const hopper::QueryOrder order = hopper::order_queries(exec, words, call, Plan::kRows);
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
