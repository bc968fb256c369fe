#include "shoal/ops/router_ledger.hpp"

namespace shoal::ops::cpu {

void router_ledger_add(const Exec&, const RouterLedgerAdd& a) {
  const std::int64_t S = a.count_SE.dim(0), E = a.count_SE.dim(1);
  const std::int64_t slots = a.tokens * a.slots_per_token;
  const float share = ledger_share(a);
  const std::int32_t* count_SE = a.count_SE.data<std::int32_t>();
  const std::int32_t* group_SE =
      (a.group_count_SE.absent() ? a.count_SE : a.group_count_SE).data<std::int32_t>();
  const float* mean_SE = a.mean_score_SE.data<float>();
  float aux = 0.0F;
  for (std::int64_t e = 0; e < E; ++e) {
    std::int64_t count = 0;
    float product = 0.0F;
    for (std::int64_t s = 0; s < S; ++s) {
      count += count_SE[s * E + e];
      product += static_cast<float>(group_SE[s * E + e]) * mean_SE[s * E + e];
    }
    a.count_E.data<float>()[e] += static_cast<float>(count);
    aux += product * share;
  }
  std::int64_t kept = 0;
  for (std::int64_t e = 0; e < a.kept_E.elements(); ++e) kept += a.kept_E.data<std::int32_t>()[e];
  float* sums = a.sums.data<float>();
  sums[0] += *a.entropy_sum.data<float>();
  sums[1] += *a.z_sum.data<float>();
  sums[2] += aux;
  sums[3] += static_cast<float>(slots - kept);
}

}  // namespace shoal::ops::cpu
