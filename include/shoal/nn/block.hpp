#pragma once
#include <variant>

#include "shoal/nn/attention.hpp"
#include "shoal/nn/mlp.hpp"
#include "shoal/nn/moe.hpp"
#include "shoal/nn/norm.hpp"

namespace shoal::nn {

/// Kept from forward to backward. Views are absent where the recompute mode says so. Here and below
/// T counts the tokens of this rank's part; attention and dense MLPs keep those of the whole
/// micro-batch.
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
  TensorView norm1_part_PD;  ///< f32: parts of the gain's gradient
  TensorView dx2_TD;
  TensorView da_TD;  ///< gradient of the attention's output: dx2, or dropout of it
  MlpDelta mlp;
  MoeDelta moe;
  TensorView norm2_part_PD;
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
    ShardGroup* group = nullptr;  ///< tensor and sequence parallelism
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
  void backward_weight(const Exec& exec, const BlockSaved& saved, const BlockDelta& delta,
                       ops::Accumulate accumulate) const;
  /// Both, in scratch.
  void backward(const Exec& exec, const Pass& pass, const BlockGradients& args,
                const BlockSaved& saved, ops::Accumulate accumulate) const;

  [[nodiscard]] const Attention& attention() const { return parts_.attention; }
  /// Generation: y = block(x) for new tokens over a cache.
  void step(const Exec& exec, const Pass& pass, const AttentionStep& step,
            const AttentionCache& cache) const;

 private:
  struct Drop {
    TensorView y_TD;
    ConstTensorView x_TD, add_TD;
    float p = 0.0F;
    std::uint32_t stream = 0;
  };
  struct MlpBranch {
    TensorView y_TD;         ///< absent: only what is saved is computed
    ConstTensorView add_TD;  ///< optional, added to y
  };
  [[nodiscard]] static bool drops(const Pass& pass, float p) { return pass.dropout() && p > 0.0F; }
  [[nodiscard]] std::uint32_t attention_stream() const { return dropout_stream(parts_.layer, 0); }
  [[nodiscard]] std::uint32_t mlp_stream() const { return dropout_stream(parts_.layer, 1); }
  void drop(const Exec& exec, const Pass& pass, const Drop& args) const;
  [[nodiscard]] BlockSaved complete(const Exec& exec, const BlockSaved& saved) const;
  void reserve_attention(BlockSaved& saved, const Store& store, const Batch& batch,
                         Recompute recompute) const;
  void reserve_mlp(BlockSaved& saved, const Store& store, const Batch& batch,
                   Recompute recompute) const;
  void attention_branch(const Exec& exec, const Pass& pass, const TensorView& a_TD,
                        const BlockSaved& full) const;
  void mlp_branch(const Exec& exec, const Pass& pass, const MlpBranch& args,
                  const BlockSaved& full) const;
  void mlp_output(const Exec& exec, const Pass& pass, const TensorView& y_TD,
                  const BlockSaved& full) const;

  // Compute again what Recompute::full left out; nothing when it is there.
  void restore_attention(const Exec& exec, const Pass& pass, BlockSaved& saved,
                         const Store& store) const;
  void restore_mlp(const Exec& exec, const Pass& pass, BlockSaved& saved, const Store& store) const;
  void reserve_mlp_delta(const Pass& pass, BlockDelta& delta, const Store& store) const;
  void reserve_attention_delta(const Pass& pass, BlockDelta& delta, const Store& store) const;
  void mlp_backward_input(const Exec& exec, const Pass& pass, const ConstTensorView& dy_TD,
                          const BlockSaved& saved, BlockDelta& delta) const;
  void mlp_backward_weight(const Exec& exec, const BlockSaved& saved, const BlockDelta& delta,
                           ops::Accumulate accumulate) const;
  [[nodiscard]] ConstTensorView attention_input(const Exec& exec, const BlockSaved& saved) const;
  void attention_backward_input(const Exec& exec, const Pass& pass, const TensorView& dx_TD,
                                const BlockSaved& saved, BlockDelta& delta) const;
  void attention_backward_weight(const Exec& exec, const BlockSaved& saved, const BlockDelta& delta,
                                 ops::Accumulate accumulate) const;

  Parts parts_;
};

}  // namespace shoal::nn
