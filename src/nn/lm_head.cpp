#include "shoal/nn/lm_head.hpp"

#include <algorithm>

#include "shoal/ops/cross_entropy.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::nn {

LmHead::LmHead(const Weight& weight, std::int64_t chunk)
    : weight_{weight}, elem_{weight.value.dtype()}, chunk_{chunk} {}

void LmHead::add_loss(const Exec& exec, const TensorView& loss_sum,
                      const TensorView& loss_T) const {
  const TensorView part = scratch(exec, {1}, DType::f32);
  ops::sum(exec, part, loss_T);
  ops::axpy(exec, loss_sum, part, 1.0F);
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
  const std::int64_t T = args.x_TD.dim(0);
  const TensorView loss_T = scratch(exec, {T}, DType::f32);
  for_each_chunk(exec, T, elem_, [&](std::int64_t first, const TensorView& logits_CV) {
    const std::int64_t count = logits_CV.dim(0);
    const ConstTensorView x_CD = args.x_TD.rows(first, count);
    weight_.forward(exec, logits_CV, x_CD);
    ops::cross_entropy(exec, {.loss_T = loss_T.rows(first, count),
                              .logits_TV = logits_CV,
                              .target_T = batch.target_T.rows(first, count),
                              .mask_T = batch.mask_T.rows(first, count),
                              .grad_scale = loss_grad_scale});
    weight_.backward_input(exec, args.dx_TD.rows(first, count), logits_CV);
    weight_.backward_weight(exec, logits_CV, x_CD,
                            first == 0 ? args.accumulate : ops::Accumulate::add);
  });
  add_loss(exec, args.loss_sum, loss_T);
}

void LmHead::evaluate(const Exec& exec, const Batch& batch, const Evaluate& args) const {
  const ScratchScope scope{exec};
  const std::int64_t T = args.x_TD.dim(0);
  const TensorView loss_T = scratch(exec, {T}, DType::f32);
  for_each_chunk(exec, T, DType::f32, [&](std::int64_t first, const TensorView& logits_CV) {
    const std::int64_t count = logits_CV.dim(0);
    weight_.forward(exec, logits_CV, args.x_TD.rows(first, count));
    ops::cross_entropy(exec, {.loss_T = loss_T.rows(first, count),
                              .logits_TV = logits_CV,
                              .target_T = batch.target_T.rows(first, count),
                              .mask_T = batch.mask_T.rows(first, count),
                              .grad_scale = {}});
  });
  add_loss(exec, args.loss_sum, loss_T);
}

void LmHead::logits(const Exec& exec, const TensorView& logits_NV,
                    const ConstTensorView& x_ND) const {
  weight_.forward(exec, logits_NV, x_ND);
}

}  // namespace shoal::nn
