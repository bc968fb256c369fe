#include "shoal/ops/router_products.hpp"

#include "ops/contract.hpp"
#include "ops/router_products_detail.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/gemm.hpp"

namespace shoal::ops {
namespace {

/// Rows that have an fp32 copy at a time: on a GPU few, because scratch is dear there.
std::int64_t copied_rows(const Exec& exec, std::int64_t tokens) {
  constexpr std::int64_t kGpuRows = 1024;
  return exec.on_gpu() ? std::min(tokens, kGpuRows) : tokens;
}
/// Room for them; absent where the elements are fp32 already.
TensorView scratch_copy(const Exec& exec, const ConstTensorView& x_TD) {
  if (x_TD.dtype() == DType::f32) return {};
  return scratch(exec, {copied_rows(exec, x_TD.dim(0)), x_TD.dim(1)}, DType::f32);
}

/// Calls body(first, count, rows of the copy) for parts of the tokens. On a dry Exec the ops in it
/// count what they take.
template <class Body>
void for_copied_rows(const TensorView& copy, std::int64_t tokens, const Body& body) {
  const std::int64_t step = copy.absent() ? tokens : copy.dim(0);
  for (std::int64_t first = 0; first < tokens; first += step) {
    const std::int64_t count = std::min(step, tokens - first);
    body(first, count, copy.absent() ? TensorView{} : copy.rows(0, count));
  }
}

/// Rows of x in fp32: themselves, or copied.
ConstTensorView in_f32(const Exec& exec, const TensorView& copy, const ConstTensorView& x) {
  if (copy.absent()) return x;
  cast(exec, copy, x);
  return copy;
}

void logits_by_parts(const Exec& exec, const RouterLogits& a, const TensorView& copy) {
  for_copied_rows(copy, a.x_TD.dim(0), [&](std::int64_t first, std::int64_t count, auto part) {
    gemm_nt(exec, {.c = a.logits_TE.rows(first, count),
                   .a = in_f32(exec, part, a.x_TD.rows(first, count)),
                   .b = a.w_ED});
  });
}

void input_gradient_by_parts(const Exec& exec, const RouterInputGradient& a,
                             const TensorView& copy) {
  for_copied_rows(copy, a.dx_TD.dim(0), [&](std::int64_t first, std::int64_t count, auto part) {
    const TensorView rows = a.dx_TD.rows(first, count), dx = part.absent() ? rows : part;
    gemm_nn(exec, {.c = dx, .a = a.dlogits_TE.rows(first, count), .b = a.w_ED});
    if (!part.absent()) cast(exec, rows, dx);
  });
}

void weight_gradient_by_parts(const Exec& exec, const RouterWeightGradient& a,
                              const TensorView& copy) {
  Accumulate accumulate = a.accumulate;
  for_copied_rows(copy, a.x_TD.dim(0), [&](std::int64_t first, std::int64_t count, auto part) {
    gemm_tn(exec, {.c = a.dw_ED,
                   .a = a.dlogits_TE.rows(first, count),
                   .b = in_f32(exec, part, a.x_TD.rows(first, count)),
                   .accumulate = accumulate});
    accumulate = Accumulate::add;
  });
}

}  // namespace

void router_logits(const Exec& exec, const RouterLogits& a) {
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1), E = a.w_ED.dim(0);
  expect_floating(a.x_TD, "router x");
  expect_tensor(a.w_ED, {E, D}, DType::f32, "router weight");
  expect_tensor(a.logits_TE, {T, E}, DType::f32, "logits");
  const ScratchScope scope{exec};
  const TensorView copy = scratch_copy(exec, a.x_TD);
  if (T * E == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu() && !exec.is_dry() && cuda::router_logits(exec, a)) return;
  }
  logits_by_parts(exec, a, copy);
}

void router_input_gradient(const Exec& exec, const RouterInputGradient& a) {
  const std::int64_t T = a.dx_TD.dim(0), D = a.dx_TD.dim(1), E = a.w_ED.dim(0);
  expect_floating(a.dx_TD, "router dx");
  expect_tensor(a.w_ED, {E, D}, DType::f32, "router weight");
  expect_tensor(a.dlogits_TE, {T, E}, DType::f32, "dlogits");
  const ScratchScope scope{exec};
  const TensorView copy = scratch_copy(exec, a.dx_TD);
  if (T * D == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu() && !exec.is_dry() && cuda::router_input_gradient(exec, a)) return;
  }
  input_gradient_by_parts(exec, a, copy);
}

void router_weight_gradient(const Exec& exec, const RouterWeightGradient& a) {
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1), E = a.dlogits_TE.dim(1);
  expect_floating(a.x_TD, "router x");
  expect_tensor(a.dw_ED, {E, D}, DType::f32, "router weight gradient");
  expect_tensor(a.dlogits_TE, {T, E}, DType::f32, "dlogits");
  const ScratchScope scope{exec};
  const TensorView copy = scratch_copy(exec, a.x_TD);
  TensorView parts;
  if (exec.on_gpu() && !copy.absent()) {
    parts = scratch(exec, {weight_gradient_parts(T, E, D), E, D}, DType::f32);
  }
  if (T * E * D == 0) {
    if (!exec.is_dry() && a.accumulate == Accumulate::overwrite) zero(exec, a.dw_ED);
    return;
  }
  if constexpr (kHasCuda) {
    if (exec.on_gpu() && !exec.is_dry() && cuda::router_weight_gradient(exec, a, parts)) return;
  }
  weight_gradient_by_parts(exec, a, copy);
}

}  // namespace shoal::ops
