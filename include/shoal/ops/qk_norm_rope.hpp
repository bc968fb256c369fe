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

/// In place: the query and key columns of dqkv hold the gradient of the rotated queries and keys
/// and get that of the projection; the value columns are left alone. In the same pass the parts of
/// the weights' gradients, which sum_parts() adds up; they are absent without norms.
struct QkNormRopeBackward {
  TensorView dqkv_TC;               ///< in/out elem [T, (H+2G) d], first (H+G) d columns
  TensorView q_part_Pd, k_part_Pd;  ///< out f32 [part_count(T), d]
  ConstTensorView qkv_TC, rstd_TJ, q_weight_d, k_weight_d, cos_PC, sin_PC, position_T;
  HeadLayout layout;
};
void qk_norm_rope_backward(const Exec& exec, const QkNormRopeBackward& args);

namespace cpu {
void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& args);
void qk_norm_rope_backward(const Exec& exec, const QkNormRopeBackward& args);
}  // namespace cpu
namespace cuda {
void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& args);
void qk_norm_rope_backward(const Exec& exec, const QkNormRopeBackward& args);
}  // namespace cuda
}  // namespace shoal::ops
