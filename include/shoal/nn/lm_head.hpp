#pragma once
#include "shoal/nn/batch.hpp"
#include "shoal/nn/linear.hpp"

namespace shoal::nn {

class ShardGroup;

/// Output projection and cross entropy over chunks of tokens, so that the logits of all tokens are
/// never in memory at once. Forward and backward of a chunk run together: its logits become their
/// own gradient in place.
///
/// Where a tensor parallel group shares the vocabulary (rank r holds rows [r V / size, ...) of the
/// weight), each rank has the logits of its rows for all tokens and only three numbers a token are
/// gathered. x and dx are the rank's part of the tokens, and a rank adds the loss of its part only:
/// the group's losses sum to that of the micro-batch.
class LmHead {
 public:
  LmHead() = default;
  LmHead(const Weight& weight, std::int64_t chunk, ShardGroup* group);

  struct Train {
    TensorView loss_sum;  ///< f32 [1], in/out: the summed loss of unmasked targets is added
    TensorView dx_TD;     ///< out elem
    ConstTensorView x_TD;
    ops::Accumulate accumulate = ops::Accumulate::overwrite;  ///< of the weight gradient
  };
  void train(const Exec& exec, const Batch& batch, const ConstTensorView& loss_grad_scale,
             const Train& args) const;
  /// Only the loss, from fp32 logits whatever the precision.
  struct Evaluate {
    TensorView loss_sum;  ///< f32 [1], in/out
    ConstTensorView x_TD;
  };
  void evaluate(const Exec& exec, const Batch& batch, const Evaluate& args) const;
  /// In a group of one.
  void logits(const Exec& exec, const TensorView& logits_NV, const ConstTensorView& x_ND) const;

 private:
  /// Calls body(first token, logits [chunk, V] in scratch).
  template <class Chunk>
  void for_each_chunk(const Exec& exec, std::int64_t tokens, DType dtype, const Chunk& body) const;
  struct Loss {
    TensorView loss_T;
    TensorView logits_TV;  ///< with grad_scale their gradient afterwards
    ConstTensorView target_T, mask_T;
    ConstTensorView grad_scale;
  };
  void cross_entropy(const Exec& exec, const Loss& args) const;
  void add_loss(const Exec& exec, const Batch& batch, const TensorView& loss_sum,
                const TensorView& loss_T) const;

  Linear weight_;
  DType elem_ = DType::f32;
  std::int64_t chunk_ = 0;
  ShardGroup* group_ = nullptr;
};

}  // namespace shoal::nn
