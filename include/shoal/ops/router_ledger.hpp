#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Adds the routing of one micro-batch to the router ledger of a layer, in fp32 and a fixed order:
///   count_e += sum_s count_se
///   sums += { entropy_sum, z_sum, sum_s sum_e f_se P_se, T K - sum_e kept_e }
/// with f_se = count_se E / (K T/S) and P_se = mean_score_se, so that an even load gives S.
struct RouterLedgerAdd {
  TensorView count_E;                       ///< in/out f32
  TensorView sums;                          ///< in/out f32 [4]: entropy, z, aux, dropped slots
  ConstTensorView count_SE, mean_score_SE;  ///< i32, f32: from router_statistics
  ConstTensorView entropy_sum, z_sum;       ///< f32 [1]
  ConstTensorView kept_E;                   ///< i32: slots that got a row, by expert
  std::int64_t tokens = 0;                  ///< T
  std::int64_t slots_per_token = 1;         ///< K
};
void router_ledger_add(const Exec& exec, const RouterLedgerAdd& args);

namespace cpu {
void router_ledger_add(const Exec& exec, const RouterLedgerAdd& args);
}
namespace cuda {
void router_ledger_add(const Exec& exec, const RouterLedgerAdd& args);
}
}  // namespace shoal::ops
