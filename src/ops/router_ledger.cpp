#include "shoal/ops/router_ledger.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void router_ledger_add(const Exec& exec, const RouterLedgerAdd& a) {
  const std::int64_t S = a.count_SE.dim(0), E = a.count_SE.dim(1);
  expect_tensor(a.count_E, {E}, DType::f32, "count");
  expect_tensor(a.sums, {4}, DType::f32, "sums");
  expect_tensor(a.count_SE, {S, E}, DType::i32, "count of the groups");
  expect_tensor(a.mean_score_SE, {S, E}, DType::f32, "mean_score");
  expect_tensor(a.entropy_sum, {1}, DType::f32, "entropy_sum");
  expect_tensor(a.z_sum, {1}, DType::f32, "z_sum");
  expect_dtype(a.kept_E, DType::i32, "kept");
  expect_optional(a.group_count_SE, {S, E}, DType::i32, "count of the whole groups");
  expect(a.group_count_SE.absent() || a.group_tokens >= 1,
         "router_ledger: whole groups have tokens");
  expect(a.slots_per_token >= 1, "router_ledger: slots_per_token must be positive");
  if (exec.is_dry() || a.tokens == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_ledger_add(exec, a);
  }
  cpu::router_ledger_add(exec, a);
}

}  // namespace shoal::ops
