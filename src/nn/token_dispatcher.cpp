#include "shoal/nn/token_dispatcher.hpp"

#include <algorithm>
#include <cmath>

#include "shoal/ops/permute.hpp"
#include "shoal/ops/take.hpp"

namespace shoal::nn {

std::int64_t expert_capacity(double factor, std::int64_t slots, std::int64_t experts) {
  if (factor <= 0.0) return 0;
  const double mean = static_cast<double>(slots) / static_cast<double>(experts);
  return std::max<std::int64_t>(1, std::llround(std::ceil(factor * mean)));
}

DispatchPlan LocalDispatcher::reserve(const Store& store, std::int64_t tokens,
                                      std::int64_t slots) const {
  return {.count_E = allocate(store, {experts_}, DType::i32),
          .row_of_slot_TK = allocate(store, {tokens, slots}, DType::i32),
          .slot_of_row_R = allocate(store, {max_rows(tokens, slots)}, DType::i32),
          .offset_E1 = allocate(store, {experts_ + 1}, DType::i32),
          .exchange = {}};
}

void LocalDispatcher::plan(const Exec& exec, const DispatchPlan& plan,
                           const DispatchRouting& routing) {
  ops::route_plan(
      exec, {.count_E = plan.count_E,
             .offset_E1 = plan.offset_E1,
             .row_of_slot_TK = plan.row_of_slot_TK,
             .slot_of_row_R = plan.slot_of_row_R,
             .index_TK = routing.index_TK,
             .capacity = expert_capacity(capacity_factor_, routing.index_TK.elements(), experts_)});
}

void LocalDispatcher::dispatch(const Exec& exec, const DispatchForward& args,
                               const DispatchPlan& plan) {
  ops::scatter_rows(
      exec, {.rows_RD = args.rows_RD, .x_TD = args.x_TD, .row_of_slot_TK = plan.row_of_slot_TK});
  if (args.overlap) args.overlap();
}

void LocalDispatcher::combine(const Exec& exec, const DispatchCombine& args,
                              const DispatchPlan& plan) {
  ops::combine_rows(exec, {.y_TD = args.y_TD,
                           .rows_RD = args.rows_RD,
                           .row_of_slot_TK = plan.row_of_slot_TK,
                           .weight_TK = args.weight_TK,
                           .add_TD = args.add_TD});
}

void LocalDispatcher::combine_backward(const Exec& exec, const DispatchCombineBackward& args,
                                       const DispatchPlan& plan) {
  ops::take(exec, {.out = args.weight_R, .values = args.weight_TK, .index = plan.slot_of_row_R});
  ops::scatter_rows(
      exec, {.rows_RD = args.drows_RD, .x_TD = args.dy_TD, .row_of_slot_TK = plan.row_of_slot_TK});
}

void LocalDispatcher::weight_backward(const Exec& exec, const DispatchWeightBackward& args,
                                      const DispatchPlan& plan) {
  ops::take(exec, {.out = args.dweight_TK, .values = args.dweight_R, .index = plan.row_of_slot_TK});
}

void LocalDispatcher::dispatch_backward(const Exec& exec, const DispatchBackward& args,
                                        const DispatchPlan& plan) {
  if (args.overlap) args.overlap();
  ops::combine_rows(exec, {.y_TD = args.dx_TD,
                           .rows_RD = args.drows_RD,
                           .row_of_slot_TK = plan.row_of_slot_TK,
                           .add_TD = args.add_TD});
}

}  // namespace shoal::nn
