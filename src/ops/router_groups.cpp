#include "shoal/ops/router_groups.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void router_group_counts(const Exec& exec, const RouterGroupCounts& a) {
  const std::int64_t F = a.count_FE.dim(0), E = a.count_FE.dim(1), A = a.fragment_AE.dim(0);
  expect_tensor(a.count_FE, {F, E}, DType::i32, "count");
  expect_tensor(a.fragment_AE, {A, E}, DType::i32, "fragment counts");
  expect(a.first >= 0 && a.first + F <= A, "router_group_counts: fragments outside of all");
  expect(a.fragments_each >= 1 && A % a.fragments_each == 0,
         "router_group_counts: fragments must divide into the groups");
  if (exec.is_dry() || F * E == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_group_counts(exec, a);
  }
  cpu::router_group_counts(exec, a);
}

void cpu::router_group_counts(const Exec&, const RouterGroupCounts& a) {
  const std::int64_t F = a.count_FE.dim(0), E = a.count_FE.dim(1);
  const std::int32_t* fragment_AE = a.fragment_AE.data<std::int32_t>();
  for (std::int64_t i = 0; i < F; ++i) {
    const std::int64_t begin = (a.first + i) / a.fragments_each * a.fragments_each;
    for (std::int64_t e = 0; e < E; ++e) {
      std::int32_t sum = 0;
      for (std::int64_t f = begin; f < begin + a.fragments_each; ++f) sum += fragment_AE[f * E + e];
      a.count_FE.data<std::int32_t>()[i * E + e] = sum;
    }
  }
}

}  // namespace shoal::ops
