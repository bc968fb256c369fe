#include "shoal/nn/experts.hpp"

#include "shoal/ops/gemm.hpp"
#include "shoal/ops/grouped_swiglu.hpp"
#include "shoal/ops/routed_swiglu.hpp"

namespace shoal::nn {
namespace {

ConstTensorView rows_limit(const ConstTensorView& offset_E1) {
  return offset_E1.rows(offset_E1.dim(0) - 1, 1);
}

}  // namespace

Experts::Experts(const Weight& gate_up, const Weight& down)
    : gate_up_{gate_up}, down_{down}, elem_{gate_up.value.dtype()} {}

ExpertsSaved Experts::reserve(const Store& store, std::int64_t rows) const {
  return {.gate_up_RF = allocate(store, {rows, 2 * down_.value.dim(2)}, elem_)};
}

ExpertsDelta Experts::reserve_delta(const Store& store, std::int64_t rows) const {
  const std::int64_t F = down_.value.dim(2);
  return {.dout_RD = allocate(store, {rows, hidden()}, elem_),
          .dgate_up_RF = allocate(store, {rows, 2 * F}, elem_),
          .h_RF = allocate(store, {rows, F}, elem_)};
}

void Experts::forward(const Exec& exec, const Forward& args, const ExpertsSaved& saved) const {
  const ScratchScope scope{exec};
  const TensorView h_RF = scratch(exec, {args.rows_RD.dim(0), down_.value.dim(2)}, elem_);
  ops::grouped_swiglu_forward(exec, {.h_RF = h_RF,
                                     .gate_up_RF = saved.gate_up_RF,
                                     .rows_RD = args.rows_RD,
                                     .gate_up_EFD = gate_up_.value,
                                     .offsets_E1 = args.offset_E1});
  if (args.out_RD.absent()) return;
  ops::grouped_gemm_nt(
      exec, {.c = args.out_RD, .a = h_RF, .b = down_.value, .offsets_E1 = args.offset_E1});
}

void Experts::backward_input(const Exec& exec, const BackwardInput& args, const ExpertsSaved& saved,
                             const ExpertsDelta& delta) const {
  ops::grouped_gemm_nn(
      exec, {.c = delta.h_RF, .a = delta.dout_RD, .b = down_.value, .offsets_E1 = args.offset_E1});
  ops::routed_swiglu_backward(exec, {.dgate_up_RF = delta.dgate_up_RF,
                                     .h_RF = delta.h_RF,
                                     .dweight_R = args.dweight_R,
                                     .dh_RF = delta.h_RF,
                                     .gate_up_RF = saved.gate_up_RF,
                                     .weight_R = args.weight_R,
                                     .rows_limit = rows_limit(args.offset_E1)});
  ops::grouped_gemm_nn(exec, {.c = args.drows_RD,
                              .a = delta.dgate_up_RF,
                              .b = gate_up_.value,
                              .offsets_E1 = args.offset_E1});
}

void Experts::backward_weight(const Exec& exec, const BackwardWeight& args,
                              const ExpertsDelta& delta) const {
  ops::grouped_gemm_tn(exec, {.c = down_.grad,
                              .a = delta.dout_RD,
                              .b = delta.h_RF,
                              .offsets_E1 = args.offset_E1,
                              .accumulate = args.accumulate});
  ops::grouped_gemm_tn(exec, {.c = gate_up_.grad,
                              .a = delta.dgate_up_RF,
                              .b = args.rows_RD,
                              .offsets_E1 = args.offset_E1,
                              .accumulate = args.accumulate});
}

}  // namespace shoal::nn
