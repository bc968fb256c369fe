#pragma once
// Chooses the instance of the grouped kernel for a plain product.
#include "ops/hopper/grouped_kernel.cuh"

namespace shoal::ops::cuda {

/// Tiles of 256 columns need fewer loads for a product than ones of 128, so they may stand out of c
/// by a fifth more.
[[nodiscard]] inline bool prefers_wide_tiles(std::int64_t columns) {
  return round_up(columns, 256) * 5 <= round_up(columns, 128) * 6;
}

#ifndef SHOAL_PAIRS_FROM
#define SHOAL_PAIRS_FROM 1024
#endif
/// A pair of blocks reads a third less from the L2 cache; half of an odd number's last pair idles.
[[nodiscard]] inline bool prefers_pairs(std::int64_t rows) {
  return rows >= SHOAL_PAIRS_FROM;
}

/// c by rows for nt and nn; matrices in fp32 for tn.
template <GroupedForm kForm>
void grouped_wgmma(const Exec& exec, const GroupedCall& call, const GroupedGemm& args) {
  const auto run = [&](auto elem, auto columns, auto cluster) {
    using Elem = decltype(elem);
    using Plan = hopper::Plan<Elem, kForm, decltype(columns)::value, decltype(cluster)::value>;
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
    using std::integral_constant;
    const std::int64_t width = kForm == GroupedForm::nt ? call.n : call.k;
    const std::int64_t height = kForm == GroupedForm::tn ? call.n : args.a.dim(0) / call.experts;
    if (!prefers_wide_tiles(width)) {
      run(elem, integral_constant<int, 128>{}, integral_constant<int, 1>{});
    } else if (prefers_pairs(height)) {
      run(elem, integral_constant<int, 256>{}, integral_constant<int, 2>{});
    } else {
      run(elem, integral_constant<int, 256>{}, integral_constant<int, 1>{});
    }
  };
  args.a.dtype() == DType::bf16 ? run_elem(__nv_bfloat16{}) : run_elem(__half{});
}

}  // namespace shoal::ops::cuda
