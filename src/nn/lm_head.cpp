#include "shoal/nn/lm_head.hpp"

#include <algorithm>

#include "shoal/nn/token_part.hpp"
#include "shoal/ops/cross_entropy.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/vocab_cross_entropy.hpp"

namespace shoal::nn {

LmHead::LmHead(const Weight& weight, std::int64_t chunk, ShardGroup* group)
    : weight_{weight}, elem_{weight.value.dtype()}, chunk_{chunk}, group_{group} {}

/// Of a chunk of tokens, whose logits this rank has a part of the columns of.
void LmHead::cross_entropy(const Exec& exec, const Loss& args) const {
  if (group_->size() == 1) {
    return ops::cross_entropy(exec, {.loss_T = args.loss_T,
                                     .logits_TV = args.logits_TV,
                                     .target_T = args.target_T,
                                     .mask_T = args.mask_T,
                                     .grad_scale = args.grad_scale});
  }
  const std::int64_t T = args.logits_TV.dim(0), ranks = group_->size();
  const std::int64_t first_id = group_->rank() * weight_.outputs();
  const TensorView terms_T3 = scratch(exec, {T, 3}, DType::f32);
  ops::vocab_terms(exec, {.terms_T3 = terms_T3,
                          .logits_TV = args.logits_TV,
                          .target_T = args.target_T,
                          .first_id = first_id});
  const ConstTensorView all_RT3 = gather_tokens(exec, *group_, terms_T3).reshape({ranks, T, 3});
  ops::vocab_cross_entropy(exec, {.loss_T = args.loss_T,
                                  .logits_TV = args.logits_TV,
                                  .terms_RT3 = all_RT3,
                                  .target_T = args.target_T,
                                  .mask_T = args.mask_T,
                                  .grad_scale = args.grad_scale,
                                  .first_id = first_id});
}

void LmHead::add_loss(const Exec& exec, const Batch& batch, const TensorView& loss_sum,
                      const TensorView& loss_T) const {
  const TokenPart part = token_part(batch, *group_);
  const TensorView sum = scratch(exec, {1}, DType::f32);
  ops::sum(exec, sum, loss_T.rows(part.first, part.count));
  ops::axpy(exec, loss_sum, sum, 1.0F);
}

template <class Chunk>
void LmHead::for_each_chunk(const Exec& exec, std::int64_t tokens, DType dtype,
                            const Chunk& body) const {
  // Wider logits come in smaller chunks, so that both take the same memory.
  const std::int64_t chunk = std::max<std::int64_t>(1, chunk_ * size_of(elem_) / size_of(dtype));
  for (std::int64_t first = 0; first < tokens; first += chunk) {
    const std::int64_t count = std::min(chunk, tokens - first);
    const ScratchScope scope{exec};
    body(first, scratch(exec, {count, weight_.outputs()}, dtype));
  }
}

void LmHead::train(const Exec& exec, const Batch& batch, const ConstTensorView& loss_grad_scale,
                   const Train& args) const {
  const ScratchScope scope{exec};
  const ConstTensorView x_TD = gather_tokens(exec, *group_, args.x_TD);
  const TensorView dx_TD = partial_target(exec, *group_, args.dx_TD);
  const std::int64_t T = x_TD.dim(0);
  const TensorView loss_T = scratch(exec, {T}, DType::f32);
  for_each_chunk(exec, T, elem_, [&](std::int64_t first, const TensorView& logits_CV) {
    const std::int64_t count = logits_CV.dim(0);
    const ConstTensorView x_CD = x_TD.rows(first, count);
    weight_.forward(exec, logits_CV, x_CD);
    cross_entropy(exec, {.loss_T = loss_T.rows(first, count),
                         .logits_TV = logits_CV,
                         .target_T = batch.target_T.rows(first, count),
                         .mask_T = batch.mask_T.rows(first, count),
                         .grad_scale = loss_grad_scale});
    weight_.backward_input(exec, dx_TD.rows(first, count), logits_CV);
    weight_.backward_weight(exec, logits_CV, x_CD,
                            first == 0 ? args.accumulate : ops::Accumulate::add);
  });
  scatter_partial(exec, *group_, args.dx_TD, dx_TD);
  add_loss(exec, batch, args.loss_sum, loss_T);
}

void LmHead::evaluate(const Exec& exec, const Batch& batch, const Evaluate& args) const {
  const ScratchScope scope{exec};
  const ConstTensorView x_TD = gather_tokens(exec, *group_, args.x_TD);
  const std::int64_t T = x_TD.dim(0);
  const TensorView loss_T = scratch(exec, {T}, DType::f32);
  for_each_chunk(exec, T, DType::f32, [&](std::int64_t first, const TensorView& logits_CV) {
    const std::int64_t count = logits_CV.dim(0);
    weight_.forward(exec, logits_CV, x_TD.rows(first, count));
    cross_entropy(exec, {.loss_T = loss_T.rows(first, count),
                         .logits_TV = logits_CV,
                         .target_T = batch.target_T.rows(first, count),
                         .mask_T = batch.mask_T.rows(first, count),
                         .grad_scale = {}});
  });
  add_loss(exec, batch, args.loss_sum, loss_T);
}

void LmHead::logits(const Exec& exec, const TensorView& logits_NV,
                    const ConstTensorView& x_ND) const {
  expect(group_->size() == 1, "logits of all tokens need a tensor parallel group of one");
  weight_.forward(exec, logits_NV, x_ND);
}

}  // namespace shoal::nn
