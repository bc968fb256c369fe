#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Cross entropy of logits whose columns are spread over ranks (Shoeybi 2019, arXiv:1909.08053,
/// section 3): each rank sums up its columns, the ranks gather these three numbers a token, and
/// each finishes the loss and the gradient of its columns. No rank sees a whole row.

/// Of each token: terms = { max of the row's logits, sum of exp(logit - max), logit of the target,
/// or zero where the target is another rank's }.
struct VocabTerms {
  TensorView terms_T3;        ///< out f32
  ConstTensorView logits_TV;  ///< elem or f32: columns [first_id, first_id + V) of the logits
  ConstTensorView target_T;   ///< i32, ids of the whole vocabulary
  std::int64_t first_id = 0;
};
void vocab_terms(const Exec& exec, const VocabTerms& args);

/// loss_t = logsumexp(logits_t) - logits_t[target_t] from the terms of all R ranks, summed in rank
/// order: the same bits on every rank. Mask, gradient and scale as in cross_entropy.
struct VocabCrossEntropy {
  TensorView loss_T;           ///< out f32
  TensorView logits_TV;        ///< in what vocab_terms read; out the gradient in the same dtype
  ConstTensorView terms_RT3;   ///< f32
  ConstTensorView target_T;    ///< i32
  ConstTensorView mask_T;      ///< u8
  ConstTensorView grad_scale;  ///< f32 [1]; absent: the logits stay as they are
  std::int64_t first_id = 0;
};
void vocab_cross_entropy(const Exec& exec, const VocabCrossEntropy& args);

namespace cpu {
void vocab_terms(const Exec& exec, const VocabTerms& args);
void vocab_cross_entropy(const Exec& exec, const VocabCrossEntropy& args);
}  // namespace cpu
namespace cuda {
void vocab_terms(const Exec& exec, const VocabTerms& args);
void vocab_cross_entropy(const Exec& exec, const VocabCrossEntropy& args);
}  // namespace cuda
}  // namespace shoal::ops
