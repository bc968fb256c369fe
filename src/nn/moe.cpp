#include "shoal/nn/moe.hpp"

namespace shoal::nn {

std::int64_t Moe::max_rows(std::int64_t tokens) const {
  return parts_.dispatcher->max_rows(tokens, parts_.router.slots());
}

MoeSaved Moe::reserve(const Store& store, const Batch& batch, std::int64_t tokens,
                      Recompute recompute) const {
  MoeSaved saved;
  if (recompute == Recompute::full) return saved;
  const std::int64_t rows = max_rows(tokens);
  saved.router = parts_.router.reserve(store, batch, tokens);
  saved.plan = parts_.dispatcher->reserve(store, tokens, parts_.router.slots());
  if (recompute == Recompute::none) {
    saved.rows_RD = allocate(store, {rows, parts_.router.hidden()}, parts_.experts.elem_dtype());
  }
  saved.experts = parts_.experts.reserve(store, rows);
  if (parts_.shared) {
    saved.shared = parts_.shared->reserve(store, parts_.router.whole(tokens), recompute);
  }
  return saved;
}

MoeDelta Moe::reserve_delta(const Store& store, std::int64_t tokens) const {
  MoeDelta delta{.router = parts_.router.reserve_delta(store, tokens),
                 .experts = parts_.experts.reserve_delta(store, max_rows(tokens)),
                 .shared = {}};
  if (parts_.shared)
    delta.shared = parts_.shared->reserve_delta(store, parts_.router.whole(tokens));
  return delta;
}

/// What the caller does not keep lies in scratch.
MoeSaved Moe::complete(const Exec& exec, const Pass& pass, const MoeSaved& saved,
                       std::int64_t tokens) const {
  if (saved.router.logits_TE.absent()) {
    return reserve(exec.scratch(), pass.batch, tokens, Recompute::none);
  }
  MoeSaved full = saved;
  full.rows_RD = or_scratch(exec, saved.rows_RD, {max_rows(tokens), parts_.router.hidden()},
                            parts_.experts.elem_dtype());
  return full;
}

void Moe::route(const Exec& exec, const Pass& pass, const ConstTensorView& x_TD,
                const MoeSaved& saved) const {
  const ScratchScope scope{exec};
  const bool counts = pass.purpose != Purpose::evaluate, train = pass.purpose == Purpose::train;
  ops::RouterChunkSums sums;
  if (counts) sums = parts_.router.scratch_sums(exec, pass.batch, x_TD.dim(0));
  parts_.router.forward(exec, x_TD, saved.router, sums);
  const bool replaced =
      pass.tap != nullptr &&
      parts_.router.show(exec, *pass.tap, pass.batch, saved.router, parts_.ledger.layer);
  parts_.dispatcher->plan(exec, saved.plan,
                          {.index_TK = saved.router.index_TK, .weight_TK = saved.router.weight_TK});
  if (!counts) return;
  parts_.router.statistics(exec, pass.batch, saved.router,
                           {.ledger = train ? &parts_.ledger : nullptr,
                            .kept_E = saved.plan.count_E,
                            .sums = replaced ? ops::RouterChunkSums{} : sums});
}

/// y = add + shared experts of x, to which combine() adds the routed ones.
void Moe::forward_shared(const Exec& exec, const Forward& args, const MlpSaved& saved) const {
  if (!parts_.shared) return;
  const bool add = !args.y_TD.absent() && !args.add_TD.absent();
  if (add) copy(exec, args.y_TD.bytes_begin(), args.add_TD.bytes_begin(), args.add_TD.bytes());
  parts_.shared->forward(exec,
                         {.y_TD = args.y_TD,
                          .x_TD = args.x_TD,
                          .accumulate = add ? ops::Accumulate::add : ops::Accumulate::overwrite},
                         saved);
}

void Moe::forward(const Exec& exec, const Pass& pass, const Forward& args,
                  const MoeSaved& saved) const {
  const ScratchScope scope{exec};
  const MoeSaved full = complete(exec, pass, saved, args.x_TD.dim(0));
  route(exec, pass, args.x_TD, full);
  parts_.dispatcher->dispatch(exec,
                              {.rows_RD = full.rows_RD,
                               .x_TD = args.x_TD,
                               .overlap = [&] { forward_shared(exec, args, full.shared); }},
                              full.plan);
  const TensorView out_RD =
      args.y_TD.absent() ? TensorView{} : scratch(exec, full.rows_RD.shape(), full.rows_RD.dtype());
  parts_.experts.forward(
      exec, {.out_RD = out_RD, .rows_RD = full.rows_RD, .offset_E1 = full.plan.offset_E1},
      full.experts);
  if (args.y_TD.absent()) return;
  parts_.dispatcher->combine(exec,
                             {.y_TD = args.y_TD,
                              .rows_RD = out_RD,
                              .weight_TK = full.router.weight_TK,
                              .add_TD = parts_.shared ? args.y_TD : args.add_TD},
                             full.plan);
}

void Moe::backward_experts(const Exec& exec, const BackwardExperts& args, const MoeSaved& saved,
                           const MoeDelta& delta) const {
  const ScratchScope scope{exec};
  const std::int64_t rows = args.drows_RD.dim(0);
  const TensorView weight_R = scratch(exec, {rows}, DType::f32);
  const TensorView dweight_R = scratch(exec, {rows}, DType::f32);
  parts_.dispatcher->combine_backward(exec,
                                      {.drows_RD = delta.experts.dout_RD,
                                       .weight_R = weight_R,
                                       .dy_TD = args.dy_TD,
                                       .weight_TK = saved.router.weight_TK},
                                      saved.plan);
  parts_.experts.backward_input(exec,
                                {.drows_RD = args.drows_RD,
                                 .dweight_R = dweight_R,
                                 .weight_R = weight_R,
                                 .offset_E1 = saved.plan.offset_E1},
                                saved.experts, delta.experts);
  parts_.dispatcher->weight_backward(exec, {.dweight_TK = args.dweight_TK, .dweight_R = dweight_R},
                                     saved.plan);
}

void Moe::backward_input(const Exec& exec, const Pass& pass, const BackwardInput& args,
                         const MoeSaved& saved, MoeDelta& delta) const {
  const ScratchScope scope{exec};
  const TensorView dweight_TK = scratch(exec, saved.router.weight_TK.shape(), DType::f32);
  const TensorView drows_RD = scratch(exec, delta.experts.dout_RD.shape(), args.dy_TD.dtype());
  const TensorView dtoken_TD = scratch(exec, args.dx_TD.shape(), args.dx_TD.dtype());
  backward_experts(exec, {.drows_RD = drows_RD, .dweight_TK = dweight_TK, .dy_TD = args.dy_TD},
                   saved, delta);
  parts_.router.backward_input(exec, pass, {.dx_TD = dtoken_TD, .dweight_TK = dweight_TK},
                               saved.router, delta.router);
  const auto shared = [&] {
    if (!parts_.shared) return;
    parts_.shared->backward_input(
        exec, {.dx_TD = dtoken_TD, .dy_TD = args.dy_TD, .accumulate = ops::Accumulate::add},
        saved.shared, delta.shared);
  };
  parts_.dispatcher->dispatch_backward(
      exec, {.dx_TD = args.dx_TD, .drows_RD = drows_RD, .add_TD = dtoken_TD, .overlap = shared},
      saved.plan);
}

void Moe::backward_weight(const Exec& exec, const ConstTensorView& x_TD, const MoeSaved& saved,
                          const MoeDelta& delta, ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  TensorView rows_RD = saved.rows_RD;
  if (rows_RD.absent()) {
    rows_RD = scratch(exec, delta.experts.dout_RD.shape(), x_TD.dtype());
    parts_.dispatcher->dispatch(exec, {.rows_RD = rows_RD, .x_TD = x_TD}, saved.plan);
  }
  parts_.experts.backward_weight(
      exec, {.rows_RD = rows_RD, .offset_E1 = saved.plan.offset_E1, .accumulate = accumulate},
      delta.experts);
  parts_.router.backward_weight(exec, x_TD, delta.router, accumulate);
  if (parts_.shared) {
    parts_.shared->backward_weight(exec, x_TD, saved.shared, delta.shared, accumulate);
  }
}

}  // namespace shoal::nn
