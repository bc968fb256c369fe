#include "shoal/ops/grouped_swiglu.hpp"

#include "ops/hopper/grouped_kernel.cuh"

namespace shoal::ops::cuda {
namespace {

template <class Elem>
void launch_forward(const Exec& exec, const GroupedCall& call, const GroupedSwigluForward& a) {
  using Plan = hopper::Plan<Elem, GroupedForm::nt, 256>;  // tiles of 128 gates and their ups
  hopper::launch<Plan>(exec, call, a.rows_RD.dim(0),
                       hopper::StoreSwiglu<Elem>{.gate_up = device_data<Elem>(a.gate_up_RF),
                                                 .h = device_data<Elem>(a.h_RF),
                                                 .columns = static_cast<int>(a.h_RF.dim(1))});
}

}  // namespace

bool grouped_swiglu_forward(const Exec& exec, const GroupedSwigluForward& a) {
  const GroupedCall call{.a = a.rows_RD.bytes_begin(),
                         .b = a.gate_up_EFD.bytes_begin(),
                         .c = a.gate_up_RF.bytes_begin(),
                         .offsets = a.offsets_E1.data<std::int32_t>(),
                         .experts = static_cast<int>(a.gate_up_EFD.dim(0)),
                         .n = a.gate_up_EFD.dim(1),
                         .k = a.gate_up_EFD.dim(2),
                         .add = false};
  const DType elem = a.h_RF.dtype();
  if (elem == DType::f32 || a.h_RF.dim(1) % 8 != 0 || !allows_wgmma(exec, call, a.rows_RD.dim(0)) ||
      !aligned_for_vectors(a.h_RF.bytes_begin(), nullptr, nullptr)) {
    return false;
  }
  elem == DType::bf16 ? launch_forward<__nv_bfloat16>(exec, call, a)
                      : launch_forward<__half>(exec, call, a);
  return true;
}

}  // namespace shoal::ops::cuda
