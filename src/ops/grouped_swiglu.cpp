#include "shoal/ops/grouped_swiglu.hpp"

#include "ops/contract.hpp"
#include "shoal/ops/gemm.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::ops {
void grouped_swiglu_forward(const Exec& exec, const GroupedSwigluForward& a) {
  const std::int64_t R = a.rows_RD.dim(0), D = a.rows_RD.dim(1);
  const std::int64_t E = a.gate_up_EFD.dim(0), F = a.h_RF.dim(1);
  const DType elem = a.rows_RD.dtype();
  expect_floating(a.rows_RD, "grouped_swiglu rows");
  expect_tensor(a.h_RF, {R, F}, elem, "grouped_swiglu h");
  expect_tensor(a.gate_up_RF, {R, 2 * F}, elem, "grouped_swiglu gate_up");
  expect_tensor(a.gate_up_EFD, {E, 2 * F, D}, elem, "grouped_swiglu weight");
  expect_tensor(a.offsets_E1, {E + 1}, DType::i32, "grouped_swiglu offsets");
  if constexpr (kHasCuda) {
    const bool nothing_to_do = R * F == 0;
    if (exec.on_gpu() && !exec.is_dry() && !nothing_to_do && cuda::grouped_swiglu_forward(exec, a))
      return;
  }
  grouped_gemm_nt(
      exec, {.c = a.gate_up_RF, .a = a.rows_RD, .b = a.gate_up_EFD, .offsets_E1 = a.offsets_E1});
  swiglu_forward(
      exec, {.h_RF = a.h_RF, .gate_up_RF = a.gate_up_RF, .rows_limit = a.offsets_E1.rows(E, 1)});
}

}  // namespace shoal::ops
