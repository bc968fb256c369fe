#include "shoal/nn/embedding.hpp"

#include "shoal/nn/token_part.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/embedding.hpp"

namespace shoal::nn {

std::int64_t Embedding::first_id() const {
  return group_->rank() * table_.value.dim(0);
}

void Embedding::drop(const Exec& exec, const Pass& pass, const TensorView& y_TD,
                     const ConstTensorView& x_TD) const {
  ops::dropout(exec, {.y = y_TD,
                      .x = x_TD,
                      .add = {},
                      .step_seed = pass.scalars.step_seed,
                      .p = dropout_,
                      .stream = kEmbeddingDropout,
                      .first = (pass.batch.first_token + token_part(pass.batch, *group_).first) *
                               y_TD.dim(1)});
}

void Embedding::forward(const Exec& exec, const Pass& pass, const TensorView& x_TD) const {
  const ScratchScope scope{exec};
  const TensorView whole_TD = partial_target(exec, *group_, x_TD);
  ops::embedding_forward(exec, {.x_TD = whole_TD,
                                .token_T = pass.batch.token_T,
                                .table_VD = table_.value,
                                .first_id = first_id()});
  scatter_partial(exec, *group_, x_TD, whole_TD);
  if (pass.dropout() && dropout_ > 0.0F) drop(exec, pass, x_TD, x_TD);
}

void Embedding::backward_weight(const Exec& exec, const Pass& pass, const ConstTensorView& dx_TD,
                                ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  ConstTensorView dtable_TD = dx_TD;
  if (pass.dropout() && dropout_ > 0.0F) {
    const TensorView dropped = scratch(exec, dx_TD.shape(), dx_TD.dtype());
    drop(exec, pass, dropped, dx_TD);
    dtable_TD = dropped;
  }
  ops::embedding_backward(exec, {.dtable_VD = table_.grad,
                                 .dx_TD = gather_tokens(exec, *group_, dtable_TD),
                                 .token_T = pass.batch.token_T,
                                 .first_id = first_id(),
                                 .accumulate = accumulate});
}

}  // namespace shoal::nn
