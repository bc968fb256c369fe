#pragma once
#include "shoal/nn/linear.hpp"
#include "shoal/nn/model_config.hpp"
#include "shoal/nn/pass.hpp"
#include "shoal/ops/qk_norm_rope.hpp"

namespace shoal::nn {

class ShardGroup;

/// What the attention module computes with, beside its weights.
struct AttentionParts {
  ops::HeadLayout heads;  ///< local
  Weight qkv;             ///< [(H + 2G) d, D]
  Weight q_norm, k_norm;  ///< [d]; absent without QK-norm
  Weight o_proj;          ///< [D, H d]
  Weight gate_weight;     ///< f32 [D]; absent without dynamic heads
  Weight gate_scalars;    ///< f32 [2]
  ConstTensorView cos_PC, sin_PC;
  DynamicHeadsConfig dynamic_heads;
  float norm_eps = 1e-6F;
  std::int64_t max_position = 1;
  ShardGroup* group = nullptr;
};

/// Kept from forward to backward; T counts the tokens of the whole group.
struct AttentionSaved {
  TensorView qkv_TC;           ///< elem [T, (H+2G) d]
  TensorView qk_TC;            ///< elem [T, (H+G) d]: after norm and rotation
  TensorView rstd_TJ;          ///< f32 [T, H+G]
  TensorView out_TC;           ///< elem [T, H d]
  TensorView lse_HT;           ///< f32 [H, T]
  TensorView gate_T, score_T;  ///< f32 [T], dynamic heads
  TensorView active_groups_T;  ///< i32 [T], dynamic heads: of the local groups
};

/// Kept from backward_input to backward_weight.
struct AttentionDelta {
  ConstTensorView dy_TD;                      ///< the caller's
  TensorView dqkv_TC;                         ///< elem [T, (H+2G) d]
  TensorView q_norm_part_Pd, k_norm_part_Pd;  ///< f32; parts of gradients, only with QK-norm
  TensorView dgate_D;                         ///< f32 [D], dynamic heads
  TensorView dgate_scalars;                   ///< f32 [2], dynamic heads
};

/// Keys and values of one sequence during generation.
struct AttentionCache {
  TensorView k_PGd, v_PGd;  ///< elem [P, G, d]
  TensorView score_P1;      ///< f32 [P, 1]: w . x of each token, dynamic heads
};

/// Tokens [first, first + T) of a sequence meet a cache of those before them.
struct AttentionStep {
  TensorView y_TD;              ///< out elem
  ConstTensorView x_TD;         ///< elem
  ConstTensorView position_T;   ///< i32: first, first + 1, ...
  ConstTensorView doc_start_P;  ///< i32, zeros: one document
  ConstTensorView k_slot_TG;    ///< i32: rows of qk[T * (H+G), d] that hold keys
  ConstTensorView v_slot_TG;    ///< i32: rows of qkv[T * (H+2G), d] that hold values
  ConstTensorView one;          ///< f32 [1]: 1
  std::int64_t first = 0;
};

/// Causal grouped-query attention from normalised input to output projection: fused q, k, v
/// projection, per-head norm and rotation, attention, o_proj, and the gate of dynamic heads. The
/// residual path, its norm and dropout are the block's.
class Attention {
 public:
  explicit Attention(const AttentionParts& parts);

  /// Memory for backward; Recompute::full keeps nothing.
  [[nodiscard]] AttentionSaved reserve(const Store& store, std::int64_t tokens,
                                       Recompute recompute) const;
  [[nodiscard]] AttentionDelta reserve_delta(const Store& store, std::int64_t tokens) const;

  /// Without y only what `saved` holds is computed (recompute): the projection is left out.
  void forward(const Exec& exec, const Pass& pass, const TensorView& y_TD,
               const ConstTensorView& x_TD, const AttentionSaved& saved) const;
  struct BackwardInput {
    TensorView dx_TD;  ///< out
    ConstTensorView dy_TD;
    ConstTensorView x_TD;  ///< only read with dynamic heads
  };
  void backward_input(const Exec& exec, const Pass& pass, const BackwardInput& args,
                      const AttentionSaved& saved, AttentionDelta& delta) const;
  struct BackwardWeight {
    ConstTensorView x_TD;
    ops::Accumulate accumulate = ops::Accumulate::overwrite;
  };
  void backward_weight(const Exec& exec, const BackwardWeight& args, const AttentionSaved& saved,
                       const AttentionDelta& delta) const;

  [[nodiscard]] AttentionCache make_cache(const Exec& exec, std::int64_t max_tokens) const;
  void step(const Exec& exec, const AttentionStep& args, const AttentionCache& cache) const;
  [[nodiscard]] const ops::HeadLayout& heads() const { return parts_.heads; }
  [[nodiscard]] bool dynamic() const { return parts_.dynamic_heads.enabled; }

 private:
  struct GateBackward {
    TensorView dx_TD;  ///< in/out
    ConstTensorView x_TD, dout_TC;
  };
  [[nodiscard]] bool has_norm() const { return !parts_.q_norm.value.absent(); }
  /// What the caller does not keep lies in scratch.
  [[nodiscard]] AttentionSaved complete(const Exec& exec, const AttentionSaved& saved,
                                        std::int64_t tokens) const;
  void rotate(const Exec& exec, const ConstTensorView& position_T,
              const AttentionSaved& full) const;
  void run_gate(const Exec& exec, const Pass& pass, const ConstTensorView& x_TD,
                const AttentionSaved& full) const;
  void core_backward(const Exec& exec, const Pass& pass, const ConstTensorView& dout_TC,
                     const AttentionSaved& saved, const AttentionDelta& delta) const;
  void gate_backward(const Exec& exec, const Pass& pass, const GateBackward& args,
                     const AttentionSaved& saved, const AttentionDelta& delta) const;
  void append(const Exec& exec, const AttentionStep& args, const AttentionCache& cache,
              const AttentionSaved& full) const;
  [[nodiscard]] TensorView cached_gate(const Exec& exec, const AttentionStep& args,
                                       const AttentionCache& cache) const;

  AttentionParts parts_;
  Linear qkv_, o_proj_;
  DType elem_;
  float scale_;
};

}  // namespace shoal::nn
