#include "shoal/ops/grouped_swiglu.hpp"

#include "ops/hopper/grouped_launch.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kColumns = 256;  // of a tile: 128 gates and 128 ups, or 256 columns of dh

/// Calls body with the plan of the product, blocks alone or in pairs.
template <GroupedForm kForm, class Body>
void with_plan(DType dtype, bool pairs, const Body& body) {
  const auto with_elem = [&](auto elem) {
    using Elem = decltype(elem);
    pairs ? body(hopper::Plan<Elem, kForm, kColumns, 2>{})
          : body(hopper::Plan<Elem, kForm, kColumns, 1>{});
  };
  dtype == DType::bf16 ? with_elem(__nv_bfloat16{}) : with_elem(__half{});
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
  const std::int64_t F = a.h_RF.dim(1), R = a.rows_RD.dim(0);
  if (a.h_RF.dtype() == DType::f32 || !allows_wgmma(exec, call, R) || F % 8 != 0 ||
      !aligned_for_vectors(a.h_RF.bytes_begin(), nullptr, nullptr))
    return false;
  const bool pairs = prefers_pairs(R / call.experts);
  with_plan<GroupedForm::nt>(a.h_RF.dtype(), pairs, [&](auto plan) {
    using Plan = decltype(plan);
    using Elem = typename Plan::Elem;
    hopper::launch<Plan>(exec, call, R,
                         hopper::StoreSwiglu<Elem>{.gate_up = device_data<Elem>(a.gate_up_RF),
                                                   .h = device_data<Elem>(a.h_RF),
                                                   .columns = static_cast<int>(F)});
  });
  return true;
}

bool grouped_swiglu_backward(const Exec& exec, const GroupedSwigluBackward& a) {
  const GroupedCall call{.a = a.dout_RD.bytes_begin(),
                         .b = a.down_EDF.bytes_begin(),
                         .c = a.dgate_up_RF.bytes_begin(),
                         .offsets = a.offsets_E1.data<std::int32_t>(),
                         .experts = static_cast<int>(a.down_EDF.dim(0)),
                         .n = a.down_EDF.dim(1),
                         .k = a.down_EDF.dim(2),
                         .add = false};
  const std::int64_t R = a.dout_RD.dim(0);
  if (a.dout_RD.dtype() == DType::f32 || !allows_wgmma(exec, call, R) ||
      !aligned_for_vectors(a.gate_up_RF.bytes_begin(), nullptr, nullptr))
    return false;
  const bool pairs = prefers_pairs(R / call.experts);
  with_plan<GroupedForm::nn>(a.dout_RD.dtype(), pairs, [&](auto plan) {
    using Plan = decltype(plan);
    using Elem = typename Plan::Elem;
    hopper::launch<Plan>(
        exec, call, R,
        hopper::StoreSwigluGradient<Elem>{.dgate_up = device_data<Elem>(a.dgate_up_RF),
                                          .gate_up = device_data<Elem>(a.gate_up_RF),
                                          .columns = static_cast<int>(call.k)});
  });
  return true;
}

}  // namespace shoal::ops::cuda
