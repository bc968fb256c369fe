#include <algorithm>
#include <bit>

#include "shoal/ops/exchange.hpp"

namespace shoal::ops::cpu {

void exchange_targets(const Exec& exec, const ExchangeTargets& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1);
  const std::int64_t P = a.target_TP.dim(1), per_rank = a.count_E.dim(0) / P;
  const std::int32_t* index_TK = a.index_TK.data<std::int32_t>();
  std::int32_t* target_TP = a.target_TP.data<std::int32_t>();
  std::int32_t* count_E = a.count_E.data<std::int32_t>();
  zero(exec, a.count_E);
  std::fill_n(target_TP, T * P, -1);
  for (std::int64_t slot = 0; slot < T * K; ++slot) {
    const std::int32_t e = index_TK[slot];
    if (e < 0) continue;
    const std::int64_t p = e / per_rank;
    target_TP[slot / K * P + p] = static_cast<std::int32_t>(p);
    ++count_E[e];
  }
}

void exchange_pack(const Exec&, const ExchangePack& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1);
  const std::int64_t S = a.choice_SC.dim(0), P = a.copy_of_rank_TP.dim(1);
  const std::int32_t* index_TK = a.index_TK.data<std::int32_t>();
  const float* weight_TK = a.weight_TK.data<float>();
  const std::int32_t* copy_TP = a.copy_of_rank_TP.data<std::int32_t>();
  std::int32_t* copy_TK = a.copy_of_slot_TK.data<std::int32_t>();
  for (std::int64_t slot = 0; slot < T * K; ++slot) {
    const std::int64_t e = index_TK[slot];
    copy_TK[slot] = e < 0 ? -1 : copy_TP[slot / K * P + e / a.experts_per_rank];
  }
  const std::int32_t* slot_S = a.slot_of_copy_S.data<std::int32_t>();
  std::int32_t* choice_SC = a.choice_SC.data<std::int32_t>();
  for (std::int64_t s = 0; s < S; ++s) {
    const std::int64_t t = slot_S[s] / P, first = slot_S[s] % P * a.experts_per_rank;
    for (std::int64_t k = 0; k < K; ++k) {
      const std::int64_t local = index_TK[t * K + k] - first;
      const bool here = local >= 0 && local < a.experts_per_rank;
      const float weight = here ? weight_TK[t * K + k] : 0.0F;
      choice_SC[s * 2 * K + k] = here ? static_cast<std::int32_t>(local) : -1;
      choice_SC[s * 2 * K + K + k] = std::bit_cast<std::int32_t>(weight);
    }
  }
}

void exchange_unpack(const Exec&, const ExchangeUnpack& a) {
  const std::int64_t N = a.expert_NK.dim(0), K = a.expert_NK.dim(1);
  const std::int32_t* choice_NC = a.choice_NC.data<std::int32_t>();
  for (std::int64_t n = 0; n < N; ++n) {
    for (std::int64_t k = 0; k < K; ++k) {
      a.expert_NK.data<std::int32_t>()[n * K + k] = choice_NC[n * 2 * K + k];
      a.weight_NK.data<float>()[n * K + k] = std::bit_cast<float>(choice_NC[n * 2 * K + K + k]);
    }
  }
}

void drop_slots(const Exec&, const DropSlots& a) {
  const std::int32_t* index_TK = a.index_TK.data<std::int32_t>();
  const std::int32_t* row_TK = a.row_of_slot_TK.data<std::int32_t>();
  std::int32_t* kept_TK = a.kept_TK.data<std::int32_t>();
  for (std::int64_t slot = 0; slot < a.index_TK.elements(); ++slot) {
    kept_TK[slot] = row_TK[slot] < 0 ? -1 : index_TK[slot];
  }
}

void gather_slots(const Exec&, const GatherSlots& a) {
  const std::int64_t slots = a.y_TK.elements(), K = a.y_TK.dim(1);
  const std::int32_t* copy_TK = a.copy_of_slot_TK.data<std::int32_t>();
  const float* x_SK = a.x_SK.data<float>();
  float* y_TK = a.y_TK.data<float>();
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    const std::int64_t copy = copy_TK[slot];
    y_TK[slot] = copy < 0 ? 0.0F : x_SK[copy * K + slot % K];
  }
}

void raise_to(const Exec&, const TensorView& x, float value) {
  float* at = x.data<float>();
  *at = std::max(*at, value);
}

}  // namespace shoal::ops::cpu
