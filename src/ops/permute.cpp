#include "shoal/ops/permute.hpp"

#include <algorithm>
#include <limits>

#include "ops/contract.hpp"
#include "ops/permute_detail.hpp"

namespace shoal::ops {
void route_plan(const Exec& exec, const RoutePlan& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1), E = a.count_E.dim(0);
  const std::int64_t R = a.slot_of_row_R.dim(0);
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.count_E, {E}, DType::i32, "count");
  expect_tensor(a.offset_E1, {E + 1}, DType::i32, "offset");
  expect_tensor(a.row_of_slot_TK, {T, K}, DType::i32, "row_of_slot");
  expect_tensor(a.slot_of_row_R, {R}, DType::i32, "slot_of_row");
  expect(E >= 1 && a.capacity >= 0, "route_plan: needs an expert and a capacity >= 0");
  const std::int64_t slots = T * K;
  expect(a.sparse || R >= (a.capacity == 0 ? slots : std::min(slots, E * a.capacity)),
         "route_plan: slot_of_row has too few rows");
  expect(std::max(R, slots) <= std::numeric_limits<std::int32_t>::max(),
         "route_plan: more rows than i32 can number");
  expect(!exec.on_gpu() || E <= kMaxGpuPlanExperts, "route_plan: at most 1024 experts on the GPU");
  if (exec.is_dry()) {
    const ScratchScope scope{exec};
    if (exec.on_gpu()) (void)route_plan_histograms(exec, a);
    return;
  }
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::route_plan(exec, a);
  }
  cpu::route_plan(exec, a);
}

void gather_rows(const Exec& exec, const GatherRows& a) {
  const std::int64_t R = a.rows_RD.dim(0), D = a.rows_RD.dim(1), T = a.x_TD.dim(0);
  expect_shape(a.rows_RD, {R, D}, "rows");
  expect_shape(a.x_TD, {T, D}, "x");
  expect_floating(a.x_TD, "x");
  expect_same_dtype(a.x_TD, a.rows_RD, "rows");
  expect_tensor(a.slot_of_row_R, {R}, DType::i32, "slot_of_row");
  expect(a.slots_per_token >= 1, "gather_rows: slots_per_token must be positive");
  if (exec.is_dry() || R == 0 || D == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::gather_rows(exec, a);
  }
  cpu::gather_rows(exec, a);
}

void scatter_rows(const Exec& exec, const ScatterRows& a) {
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1), K = a.row_of_slot_TK.dim(1);
  expect_shape(a.x_TD, {T, D}, "x");
  expect_floating(a.x_TD, "x");
  expect_tensor(a.rows_RD, {a.rows_RD.dim(0), D}, a.x_TD.dtype(), "rows");
  expect_tensor(a.row_of_slot_TK, {T, K}, DType::i32, "row_of_slot");
  if (exec.is_dry() || T * K == 0 || D == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::scatter_rows(exec, a);
  }
  cpu::scatter_rows(exec, a);
}

void combine_rows(const Exec& exec, const CombineRows& a) {
  const std::int64_t T = a.y_TD.dim(0), D = a.y_TD.dim(1), K = a.row_of_slot_TK.dim(1);
  expect_shape(a.y_TD, {T, D}, "y");
  expect_floating(a.y_TD, "y");
  expect_shape(a.rows_RD, {a.rows_RD.dim(0), D}, "rows");
  expect_same_dtype(a.y_TD, a.rows_RD, "rows");
  expect_tensor(a.row_of_slot_TK, {T, K}, DType::i32, "row_of_slot");
  expect_optional(a.weight_TK, {T, K}, DType::f32, "weight");
  expect_optional(a.add_TD, {T, D}, a.y_TD.dtype(), "add");
  if (exec.is_dry() || T == 0 || D == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::combine_rows(exec, a);
  }
  cpu::combine_rows(exec, a);
}

}  // namespace shoal::ops
