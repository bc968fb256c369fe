#pragma once
// Chooses the instance of the grouped kernel for a plain product.
#include "ops/hopper/grouped_kernel.cuh"

namespace shoal::ops::cuda {

/// Tiles of 256 columns need fewer loads for a product than ones of 128, so they may stand out of c
/// by a fifth more.
[[nodiscard]] inline bool prefers_wide_tiles(std::int64_t columns) {
  return round_up(columns, 256) * 5 <= round_up(columns, 128) * 6;
}

/// c by rows for nt and nn; matrices in fp32 for tn.
template <GroupedForm kForm>
void grouped_wgmma(const Exec& exec, const GroupedCall& call, const GroupedGemm& args) {
  const auto run = [&](auto elem, auto columns) {
    using Elem = decltype(elem);
    using Plan = hopper::Plan<Elem, kForm, decltype(columns)::value>;
    const auto width = static_cast<int>(kForm == GroupedForm::nt ? call.n : call.k);
    if constexpr (kForm == GroupedForm::tn) {
      hopper::launch<Plan>(exec, call, args.a.dim(0),
                           hopper::StoreMatrix{.c = static_cast<float*>(call.c),
                                               .matrix_elements = call.n * call.k,
                                               .columns = width,
                                               .add = call.add});
    } else {
      hopper::launch<Plan>(
          exec, call, args.a.dim(0),
          hopper::StoreRows<Elem>{.c = static_cast<Elem*>(call.c), .columns = width});
    }
  };
  const auto run_elem = [&](auto elem) {
    if (prefers_wide_tiles(kForm == GroupedForm::nt ? call.n : call.k)) {
      run(elem, std::integral_constant<int, 256>{});
    } else {
      run(elem, std::integral_constant<int, 128>{});
    }
  };
  args.a.dtype() == DType::bf16 ? run_elem(__nv_bfloat16{}) : run_elem(__half{});
}

}  // namespace shoal::ops::cuda
