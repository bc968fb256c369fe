#pragma once
#include <variant>

#include "shoal/nn/attention.hpp"
#include "shoal/nn/mlp.hpp"
#include "shoal/nn/moe.hpp"
#include "shoal/nn/norm.hpp"

namespace shoal::nn {

/// Kept from forward to backward. Views are absent where the recompute mode says so.
struct BlockSaved {
  ConstTensorView x_TD;  ///< elem: the block's input; the caller keeps it
  TensorView y1_TD;      ///< elem: input of attention
  TensorView rstd1_T;
  AttentionSaved attention;
  TensorView x2_TD;  ///< elem: x + attention
  TensorView y2_TD;  ///< elem: input of the MLP or the experts
  TensorView rstd2_T;
  MlpSaved mlp;
  MoeSaved moe;
};

/// Kept from backward_input to backward_weight.
struct BlockDelta {
  AttentionDelta attention;
  TensorView dy1_TD;
  TensorView dx2_TD;
  TensorView da_TD;  ///< gradient of the attention's output: dx2, or dropout of it
  MlpDelta mlp;
  MoeDelta moe;
  TensorView dy2_TD;
  TensorView dm_TD;  ///< gradient of the MLP's output, only with dropout
};

struct BlockGradients {
  TensorView dx_TD;  ///< out
  ConstTensorView dy_TD;
};

/// One decoder layer: x2 = x + attention(norm(x)), y = x2 + mlp(norm(x2)), mlp dense or MoE.
class Block {
 public:
  struct Parts {
    RmsNorm input_norm, post_norm;
    Attention attention;
    std::variant<Mlp, Moe> mlp;
    Recompute recompute_attention = Recompute::none, recompute_mlp = Recompute::none;
    float attention_dropout = 0.0F, mlp_dropout = 0.0F;
    std::int64_t layer = 0;
    std::int64_t hidden = 0;
    DType elem = DType::f32;
  };
  explicit Block(const Parts& parts) : parts_{parts} {}

  /// Memory for backward, as the recompute modes ask.
  [[nodiscard]] BlockSaved reserve(const Store& store, const Batch& batch) const;
  void forward(const Exec& exec, const Pass& pass, const TensorView& y_TD,
               const BlockSaved& saved) const;

  /// `store` gives the memory of `delta` and of what is recomputed into `saved`.
  void backward_input(const Exec& exec, const Pass& pass, const BlockGradients& args,
                      BlockSaved& saved, BlockDelta& delta, const Store& store) const;
  void backward_weight(const Exec& exec, const Pass& pass, const BlockSaved& saved,
                       const BlockDelta& delta, ops::Accumulate accumulate) const;
  /// Both, in scratch.
  void backward(const Exec& exec, const Pass& pass, const BlockGradients& args,
                const BlockSaved& saved, ops::Accumulate accumulate) const;

  // parts, for generation
  [[nodiscard]] const Attention& attention() const { return parts_.attention; }
  /// y = block(x) for new tokens over a cache; `step` gives all but y and x.
  void step(const Exec& exec, const Pass& pass, const AttentionStep& step,
            const AttentionCache& cache) const;

 private:
  Parts parts_;
};

}  // namespace shoal::nn
