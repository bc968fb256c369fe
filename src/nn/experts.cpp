#include "shoal/nn/experts.hpp"

#include "shoal/ops/gemm.hpp"
#include "shoal/ops/grouped_swiglu.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::nn {
namespace {

ConstTensorView rows_limit(const ConstTensorView& offset_E1) {
  return offset_E1.rows(offset_E1.dim(0) - 1, 1);
}

}  // namespace

Experts::Experts(const Weight& gate_up, const Weight& down)
    : gate_up_{gate_up}, down_{down}, elem_{gate_up.value.dtype()} {}

ExpertsSaved Experts::reserve(const Store& store, std::int64_t rows, Recompute recompute) const {
  ExpertsSaved saved;
  if (recompute == Recompute::full) return saved;
  const std::int64_t D = down_.value.dim(1), F = down_.value.dim(2);
  saved.gate_up_RF = allocate(store, {rows, 2 * F}, elem_);
  if (recompute == Recompute::none) saved.h_RF = allocate(store, {rows, F}, elem_);
  saved.out_RD = allocate(store, {rows, D}, elem_);
  return saved;
}

ExpertsDelta Experts::reserve_delta(const Store& store, std::int64_t rows) const {
  const std::int64_t D = down_.value.dim(1), F = down_.value.dim(2);
  return {.dout_RD = allocate(store, {rows, D}, elem_),
          .dgate_up_RF = allocate(store, {rows, 2 * F}, elem_)};
}

void Experts::activate(const Exec& exec, const TensorView& h_RF, const ConstTensorView& offset_E1,
                       const TensorView& gate_up_RF) const {
  ops::swiglu_forward(
      exec, {.h_RF = h_RF, .gate_up_RF = gate_up_RF, .rows_limit = rows_limit(offset_E1)});
}

void Experts::forward(const Exec& exec, const ConstTensorView& rows_RD,
                      const ConstTensorView& offset_E1, const ExpertsSaved& saved) const {
  const ScratchScope scope{exec};
  const std::int64_t R = rows_RD.dim(0), F = down_.value.dim(2);
  const TensorView gate_up_RF = or_scratch(exec, saved.gate_up_RF, {R, 2 * F}, elem_);
  const TensorView h_RF = or_scratch(exec, saved.h_RF, {R, F}, elem_);
  ops::grouped_swiglu_forward(exec, {.h_RF = h_RF,
                                     .gate_up_RF = gate_up_RF,
                                     .rows_RD = rows_RD,
                                     .gate_up_EFD = gate_up_.value,
                                     .offsets_E1 = offset_E1});
  ops::grouped_gemm_nt(exec,
                       {.c = saved.out_RD, .a = h_RF, .b = down_.value, .offsets_E1 = offset_E1});
}

void Experts::backward_input(const Exec& exec, const TensorView& drows_RD,
                             const ConstTensorView& offset_E1, const ExpertsSaved& saved,
                             const ExpertsDelta& delta) const {
  const ScratchScope scope{exec};
  const TensorView dh_RF = scratch(exec, {drows_RD.dim(0), down_.value.dim(2)}, elem_);
  ops::grouped_gemm_nn(exec,
                       {.c = dh_RF, .a = delta.dout_RD, .b = down_.value, .offsets_E1 = offset_E1});
  ops::swiglu_backward(exec, {.dgate_up_RF = delta.dgate_up_RF,
                              .dh_RF = dh_RF,
                              .gate_up_RF = saved.gate_up_RF,
                              .rows_limit = rows_limit(offset_E1)});
  ops::grouped_gemm_nn(
      exec, {.c = drows_RD, .a = delta.dgate_up_RF, .b = gate_up_.value, .offsets_E1 = offset_E1});
}

void Experts::backward_weight(const Exec& exec, const BackwardWeight& args,
                              const ExpertsSaved& saved, const ExpertsDelta& delta) const {
  const ScratchScope scope{exec};
  TensorView h_RF = saved.h_RF;
  if (h_RF.absent()) {
    h_RF = scratch(exec, {args.rows_RD.dim(0), down_.value.dim(2)}, elem_);
    activate(exec, h_RF, args.offset_E1, saved.gate_up_RF);
  }
  ops::grouped_gemm_tn(exec, {.c = down_.grad,
                              .a = delta.dout_RD,
                              .b = h_RF,
                              .offsets_E1 = args.offset_E1,
                              .accumulate = args.accumulate});
  ops::grouped_gemm_tn(exec, {.c = gate_up_.grad,
                              .a = delta.dgate_up_RF,
                              .b = args.rows_RD,
                              .offsets_E1 = args.offset_E1,
                              .accumulate = args.accumulate});
}

}  // namespace shoal::nn
