#include "shoal/ops/exchange.hpp"

#include <algorithm>
#include <limits>

#include "ops/contract.hpp"

namespace shoal::ops {

void exchange_targets(const Exec& exec, const ExchangeTargets& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1);
  const std::int64_t P = a.target_TP.dim(1), E = a.count_E.dim(0);
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.target_TP, {T, P}, DType::i32, "target");
  expect_tensor(a.count_E, {E}, DType::i32, "count");
  expect(P >= 1 && E >= P && E % P == 0, "exchange_targets: P must divide E");
  expect(T * std::max(P, K) <= std::numeric_limits<std::int32_t>::max(),
         "exchange_targets: more copies than i32 can number");
  if (exec.is_dry()) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::exchange_targets(exec, a);
  }
  cpu::exchange_targets(exec, a);
}

void exchange_pack(const Exec& exec, const ExchangePack& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1);
  const std::int64_t S = a.choice_SC.dim(0), P = a.copy_of_rank_TP.dim(1);
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.weight_TK, {T, K}, DType::f32, "weight");
  expect_tensor(a.choice_SC, {S, 2 * K}, DType::i32, "choice");
  expect_tensor(a.copy_of_slot_TK, {T, K}, DType::i32, "copy_of_slot");
  expect_tensor(a.copy_of_rank_TP, {T, P}, DType::i32, "copy_of_rank");
  expect_tensor(a.slot_of_copy_S, {S}, DType::i32, "slot_of_copy");
  expect(a.experts_per_rank >= 1, "exchange_pack: a rank holds at least one expert");
  if (exec.is_dry() || T * K == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::exchange_pack(exec, a);
  }
  cpu::exchange_pack(exec, a);
}

void exchange_unpack(const Exec& exec, const ExchangeUnpack& a) {
  const std::int64_t N = a.expert_NK.dim(0), K = a.expert_NK.dim(1);
  expect_tensor(a.expert_NK, {N, K}, DType::i32, "expert");
  expect_tensor(a.weight_NK, {N, K}, DType::f32, "weight");
  expect_tensor(a.choice_NC, {N, 2 * K}, DType::i32, "choice");
  if (exec.is_dry() || N * K == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::exchange_unpack(exec, a);
  }
  cpu::exchange_unpack(exec, a);
}

void drop_slots(const Exec& exec, const DropSlots& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1);
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.kept_TK, {T, K}, DType::i32, "kept");
  expect_tensor(a.row_of_slot_TK, {T, K}, DType::i32, "row_of_slot");
  if (exec.is_dry() || T * K == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::drop_slots(exec, a);
  }
  cpu::drop_slots(exec, a);
}

void gather_slots(const Exec& exec, const GatherSlots& a) {
  const std::int64_t T = a.y_TK.dim(0), K = a.y_TK.dim(1);
  expect_tensor(a.y_TK, {T, K}, DType::f32, "y");
  expect_tensor(a.x_SK, {a.x_SK.dim(0), K}, DType::f32, "x");
  expect_tensor(a.copy_of_slot_TK, {T, K}, DType::i32, "copy_of_slot");
  if (exec.is_dry() || T * K == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::gather_slots(exec, a);
  }
  cpu::gather_slots(exec, a);
}

void raise_to(const Exec& exec, const TensorView& x, float value) {
  expect_tensor(x, {1}, DType::f32, "x");
  if (exec.is_dry()) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::raise_to(exec, x, value);
  }
  cpu::raise_to(exec, x, value);
}

}  // namespace shoal::ops
