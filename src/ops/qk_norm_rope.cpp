#include "shoal/ops/qk_norm_rope.hpp"

#include "ops/contract.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::ops {
namespace {

constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;  // kernels number them in i32

/// What all three have in common: T tokens, the packed projection and the angles.
struct Common {
  const ConstTensorView& qkv_TC;
  const ConstTensorView& cos_PC;
  const ConstTensorView& sin_PC;
  const ConstTensorView& position_T;
  const HeadLayout& layout;
};

void check_common(const Common& a, Where at = Where::current()) {
  const std::int64_t T = a.position_T.dim(0);
  const Shape table{a.cos_PC.dim(0), a.layout.head_dim / 2};
  expect(a.layout.heads > 0 && a.layout.groups > 0 && a.layout.head_dim > 0 &&
             a.layout.head_dim % 2 == 0,
         "qk_norm_rope: heads, groups and an even head_dim must be positive", at);
  expect(T * (a.layout.heads + a.layout.groups) <= kMaxRows,
         "qk_norm_rope: at most 2^30 heads of tokens", at);
  expect_floating(a.qkv_TC, "qkv", at);
  expect_shape(a.qkv_TC, {T, a.layout.qkv_columns()}, "qkv", at);
  expect_tensor(a.cos_PC, table, DType::f32, "cos", at);
  expect_tensor(a.sin_PC, table, DType::f32, "sin", at);
  expect_tensor(a.position_T, {T}, DType::i32, "position", at);
}

}  // namespace

void qk_norm_rope_forward(const Exec& exec, const QkNormRopeForward& a) {
  check_common({a.qkv_TC, a.cos_PC, a.sin_PC, a.position_T, a.layout});
  const std::int64_t T = a.position_T.dim(0);
  const DType elem = a.qkv_TC.dtype();
  expect_tensor(a.qk_TC, {T, a.layout.qk_columns()}, elem, "qk");
  expect_optional(a.q_weight_d, {a.layout.head_dim}, elem, "q_weight");
  expect_optional(a.k_weight_d, {a.layout.head_dim}, elem, "k_weight");
  expect_optional(a.rstd_TJ, {T, a.layout.heads + a.layout.groups}, DType::f32, "rstd");
  expect(
      a.q_weight_d.absent() == a.k_weight_d.absent() && a.q_weight_d.absent() == a.rstd_TJ.absent(),
      "qk_norm_rope: q_weight, k_weight and rstd come together");
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::qk_norm_rope_forward(exec, a);
  }
  cpu::qk_norm_rope_forward(exec, a);
}

void qk_norm_rope_backward(const Exec& exec, const QkNormRopeBackward& a) {
  check_common({a.qkv_TC, a.cos_PC, a.sin_PC, a.position_T, a.layout});
  const std::int64_t T = a.position_T.dim(0);
  const std::int64_t d = a.layout.head_dim;
  const DType elem = a.qkv_TC.dtype();
  expect_tensor(a.dqkv_TC, {T, a.layout.qkv_columns()}, elem, "dqkv");
  expect_optional(a.q_weight_d, {d}, elem, "q_weight");
  expect_optional(a.k_weight_d, {d}, elem, "k_weight");
  expect_optional(a.rstd_TJ, {T, a.layout.heads + a.layout.groups}, DType::f32, "rstd");
  expect_optional(a.q_part_Pd, {part_count(T), d}, DType::f32, "q_part");
  expect_optional(a.k_part_Pd, {part_count(T), d}, DType::f32, "k_part");
  const bool norm = !a.q_weight_d.absent();
  expect(norm != a.k_weight_d.absent() && norm != a.rstd_TJ.absent() &&
             norm != a.q_part_Pd.absent() && norm != a.k_part_Pd.absent(),
         "qk_norm_rope: weights, rstd and parts come together");
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::qk_norm_rope_backward(exec, a);
  }
  cpu::qk_norm_rope_backward(exec, a);
}

}  // namespace shoal::ops
