#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// loss_t = logsumexp(logits_t) - logits_t[target_t], zero where mask_t is zero; in nats, not
/// averaged. With `grad_scale` the logits are overwritten by their gradient:
/// (softmax(logits_t) - onehot(target_t)) * grad_scale * mask_t.
struct CrossEntropy {
  TensorView loss_T;           ///< out f32
  TensorView logits_TV;        ///< in elem or f32; out the gradient in the same dtype
  ConstTensorView target_T;    ///< i32 in [0, V)
  ConstTensorView mask_T;      ///< u8
  ConstTensorView grad_scale;  ///< f32 [1] on the device: loss scale / global count of unmasked
                               ///< targets; absent: the logits stay as they are
};
void cross_entropy(const Exec& exec, const CrossEntropy& args);

namespace cpu {
void cross_entropy(const Exec& exec, const CrossEntropy& args);
}
namespace cuda {
void cross_entropy(const Exec& exec, const CrossEntropy& args);
}
}  // namespace shoal::ops
