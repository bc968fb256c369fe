#include "shoal/nn/mlp.hpp"

#include "shoal/nn/shard_group.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::nn {
namespace {

/// y (+)= x W^T (or dy W), whose partial sums meet over the group.
template <class Product>
void produce(const Exec& exec, ShardGroup& group, const TensorView& out, ops::Accumulate accumulate,
             const Product& product) {
  if (group.size() == 1) return product(out, accumulate);
  const TensorView whole = partial_target(exec, group, out);
  product(whole, ops::Accumulate::overwrite);
  if (accumulate == ops::Accumulate::overwrite) return scatter_partial(exec, group, out, whole);
  const TensorView part = scratch(exec, out.shape(), out.dtype());
  scatter_partial(exec, group, part, whole);
  ops::add(exec, out, out, part);
}

}  // namespace

Mlp::Mlp(const Weight& gate_up, const Weight& down, ShardGroup* group)
    : gate_up_{gate_up}, down_{down}, elem_{gate_up.value.dtype()}, group_{group} {}

MlpSaved Mlp::reserve(const Store& store, std::int64_t tokens, Recompute recompute) const {
  MlpSaved saved;
  if (recompute == Recompute::full) return saved;
  saved.gate_up_TF = allocate(store, {tokens, 2 * width()}, elem_);
  if (recompute == Recompute::none) saved.h_TF = allocate(store, {tokens, width()}, elem_);
  return saved;
}

MlpDelta Mlp::reserve_delta(const Store& store, std::int64_t tokens) const {
  return {.dy_TD = {}, .dgate_up_TF = allocate(store, {tokens, 2 * width()}, elem_)};
}

void Mlp::forward(const Exec& exec, const Forward& args, const MlpSaved& saved) const {
  const ScratchScope scope{exec};
  const ConstTensorView x_TD = gather_tokens(exec, *group_, args.x_TD);
  const std::int64_t T = x_TD.dim(0);
  const TensorView gate_up_TF = or_scratch(exec, saved.gate_up_TF, {T, 2 * width()}, elem_);
  gate_up_.forward(exec, gate_up_TF, x_TD);
  if (args.y_TD.absent() && saved.h_TF.absent()) return;
  const TensorView h_TF = or_scratch(exec, saved.h_TF, {T, width()}, elem_);
  ops::swiglu_forward(exec, {.h_RF = h_TF, .gate_up_RF = gate_up_TF, .rows_limit = {}});
  if (args.y_TD.absent()) return;
  produce(exec, *group_, args.y_TD, args.accumulate,
          [&](const TensorView& y, ops::Accumulate a) { down_.forward(exec, y, h_TF, a); });
}

void Mlp::backward_input(const Exec& exec, const BackwardInput& args, const MlpSaved& saved,
                         MlpDelta& delta) const {
  delta.dy_TD = args.dy_TD;
  const ScratchScope scope{exec};
  const ConstTensorView dy_TD = gather_tokens(exec, *group_, args.dy_TD);
  const TensorView dh_TF = scratch(exec, {dy_TD.dim(0), width()}, elem_);
  down_.backward_input(exec, dh_TF, dy_TD);
  ops::swiglu_backward(exec, {.dgate_up_RF = delta.dgate_up_TF,
                              .dh_RF = dh_TF,
                              .gate_up_RF = saved.gate_up_TF,
                              .rows_limit = {}});
  produce(exec, *group_, args.dx_TD, args.accumulate, [&](const TensorView& dx, ops::Accumulate a) {
    gate_up_.backward_input(exec, dx, delta.dgate_up_TF, a);
  });
}

void Mlp::backward_weight(const Exec& exec, const ConstTensorView& x_TD, const MlpSaved& saved,
                          const MlpDelta& delta, ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  const ConstTensorView whole_TD = gather_tokens(exec, *group_, x_TD);
  const ConstTensorView dy_TD = gather_tokens(exec, *group_, delta.dy_TD);
  TensorView h_TF = saved.h_TF;
  if (h_TF.absent()) {
    h_TF = scratch(exec, {dy_TD.dim(0), width()}, elem_);
    ops::swiglu_forward(exec, {.h_RF = h_TF, .gate_up_RF = saved.gate_up_TF, .rows_limit = {}});
  }
  down_.backward_weight(exec, dy_TD, h_TF, accumulate);
  gate_up_.backward_weight(exec, delta.dgate_up_TF, whole_TD, accumulate);
}

}  // namespace shoal::nn
