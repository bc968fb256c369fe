#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Sizes of the packed projection qkv[T, (H + 2G) d]: H query heads, G key heads, G value heads.
struct HeadLayout {
  std::int64_t heads = 0;     ///< H
  std::int64_t groups = 0;    ///< G
  std::int64_t head_dim = 0;  ///< d, even
  [[nodiscard]] std::int64_t qk_columns() const { return (heads + groups) * head_dim; }
  [[nodiscard]] std::int64_t qkv_columns() const { return (heads + 2 * groups) * head_dim; }
};

/// Per-head RMSNorm of queries and keys (optional), then rotary embedding in the rotate-half form
/// (Su et al. 2021, arXiv:2104.09864): with x = (a, b) halves of a head, y = (a cos - b sin,
/// b cos + a sin). Angles come from tables [P, d/2] at the token's position in its document.
struct QkNormRopeForward {
  TensorView qk_TC;                ///< out elem [T, (H+G) d]: rotated queries, then keys
  TensorView rstd_TJ;              ///< out f32 [T, H+G]; absent without norms
  ConstTensorView qkv_TC;          ///< elem [T, (H+2G) d]
  ConstTensorView q_weight_d;      ///< elem [d]; absent: no norm of queries and keys
  ConstTensorView k_weight_d;      ///< elem [d]; absent together with q_weight_d
  ConstTensorView cos_PC, sin_PC;  ///< f32 [P, d/2]
  ConstTensorView position_T;      ///< i32, in [0, P)
  HeadLayout layout;
  float eps = 1e-6F;
};
void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& args);

/// Writes the query and key columns of dqkv; the value columns are the attention's to write.
struct QkNormRopeBackwardInput {
  TensorView dqkv_TC;      ///< out elem [T, (H+2G) d], first (H+G) d columns
  ConstTensorView dqk_TC;  ///< elem [T, (H+G) d]: gradient of the rotated queries and keys
  ConstTensorView qkv_TC, rstd_TJ, q_weight_d, k_weight_d, cos_PC, sin_PC, position_T;
  HeadLayout layout;
};
void qk_norm_rope_backward_input(const Exec& exec, const QkNormRopeBackwardInput& args);

struct QkNormRopeBackwardWeight {
  TensorView dq_weight_d, dk_weight_d;  ///< out f32 [d]
  ConstTensorView dqk_TC, qkv_TC, rstd_TJ, cos_PC, sin_PC, position_T;
  HeadLayout layout;
  Accumulate accumulate = Accumulate::overwrite;
};
void qk_norm_rope_backward_weight(const Exec& exec, const QkNormRopeBackwardWeight& args);

/// `part_q_Pd`, `part_k_Pd`: scratch for the two-stage sums over tokens.
namespace cpu {
void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& args);
void qk_norm_rope_backward_input(const Exec& exec, const QkNormRopeBackwardInput& args);
void qk_norm_rope_backward_weight(const Exec& exec, const QkNormRopeBackwardWeight& args,
                                  const TensorView& part_q_Pd, const TensorView& part_k_Pd);
}  // namespace cpu
namespace cuda {
void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& args);
void qk_norm_rope_backward_input(const Exec& exec, const QkNormRopeBackwardInput& args);
void qk_norm_rope_backward_weight(const Exec& exec, const QkNormRopeBackwardWeight& args,
                                  const TensorView& part_q_Pd, const TensorView& part_k_Pd);
}  // namespace cuda
}  // namespace shoal::ops
