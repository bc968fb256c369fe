#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Adds the routing of one micro-batch to the router ledger of a layer, in fp32 and a fixed order:
///   count_e += sum_s count_se
///   sums += { entropy_sum, z_sum, sum_s sum_e f_se P_se, T K - sum_e kept_e }
/// with f_se = count_se E / (K T/S) and P_se = mean_score_se, so that an even load gives S.
/// Where groups are spread over ranks the S blocks are fragments of groups of `group_tokens`
/// tokens: f_se is then that of the whole group and P_se the fragment's share of its group's, so
/// that the sums of all ranks add up to those of whole groups.
struct RouterLedgerAdd {
  TensorView count_E;                       ///< in/out f32
  TensorView sums;                          ///< in/out f32 [4]: entropy, z, aux, dropped slots
  ConstTensorView count_SE, mean_score_SE;  ///< i32, f32: from router_statistics
  ConstTensorView entropy_sum, z_sum;       ///< f32 [1]
  ConstTensorView kept_E;                   ///< i32: slots that got a row, by expert
  ConstTensorView group_count_SE;           ///< i32 of each fragment's group; absent: whole groups
  std::int64_t group_tokens = 0;            ///< only with group_count_SE
  std::int64_t tokens = 0;                  ///< T
  std::int64_t slots_per_token = 1;         ///< K
};
void router_ledger_add(const Exec& exec, const RouterLedgerAdd& args);

/// f_se / count_se times the share that these tokens have in their group.
[[nodiscard]] inline float ledger_share(const RouterLedgerAdd& a) {
  const std::int64_t S = a.count_SE.dim(0), E = a.count_SE.dim(1);
  const float share = static_cast<float>(E * S) / static_cast<float>(a.tokens * a.slots_per_token);
  if (a.group_count_SE.absent()) return share;
  const float part = static_cast<float>(a.tokens) / static_cast<float>(S * a.group_tokens);
  return share * part * part;
}

namespace cpu {
void router_ledger_add(const Exec& exec, const RouterLedgerAdd& args);
}
namespace cuda {
void router_ledger_add(const Exec& exec, const RouterLedgerAdd& args);
}
}  // namespace shoal::ops
