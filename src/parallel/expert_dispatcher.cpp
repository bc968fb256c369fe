#include "shoal/parallel/expert_dispatcher.hpp"

#include "shoal/base/error.hpp"
#include "shoal/ops/exchange.hpp"
#include "shoal/ops/permute.hpp"
#include "shoal/ops/take.hpp"

namespace shoal::parallel {
namespace {

/// The first `rows` of what a plan reserved for the worst case.
ConstTensorView used(const TensorView& view, std::int64_t rows) {
  return view.rows(0, rows);
}

/// Scratch for `rows` rows shaped like those of `like`.
TensorView rows_like(const Exec& exec, std::int64_t rows, const ConstTensorView& like) {
  Shape shape{rows};
  for (int i = 1; i < like.shape().rank(); ++i) shape.push_back(like.dim(i));
  return scratch(exec, shape, like.dtype());
}

}  // namespace

ExpertDispatcher::ExpertDispatcher(const ExpertDispatcherParts& parts, DeviceKind device)
    : parts_{parts},
      counts_{device, (1 + parts.group.size() + parts.experts) * size_of(DType::i32)} {
  expect(parts_.experts % ranks() == 0, "experts must be divisible by the expert parallel ranks");
  expect(parts_.collectives.size() == ranks(),
         "the collectives of an expert dispatcher are of another group");
}

ExchangeShape ExpertDispatcher::shape_of(const nn::DispatchPlan& plan) const {
  const TensorView& slots = plan.exchange.copy_of_slot_TK;
  return {
      .tokens = slots.dim(0), .slots = slots.dim(1), .experts = parts_.experts, .ranks = ranks()};
}

std::int64_t ExpertDispatcher::max_rows(std::int64_t tokens, std::int64_t slots) const {
  return expert_rows(
      {.tokens = tokens, .slots = slots, .experts = parts_.experts, .ranks = ranks()},
      parts_.buffer_factor);
}

nn::DispatchPlan ExpertDispatcher::reserve(const Store& store, std::int64_t tokens,
                                           std::int64_t slots) const {
  const ExchangeShape shape{
      .tokens = tokens, .slots = slots, .experts = parts_.experts, .ranks = ranks()};
  const std::int64_t N = arriving_copies(shape, parts_.buffer_factor);
  const auto i32 = [&](const Shape& s) { return allocate(store, s, DType::i32); };
  return {.count_E = i32({parts_.experts}),
          .row_of_slot_TK = i32({N, slots}),
          .slot_of_row_R = i32({max_rows(tokens, slots)}),
          .offset_E1 = i32({experts_here() + 1}),
          .exchange = {.copy_of_rank_TP = i32({tokens, ranks()}),
                       .slot_of_copy_S = i32({tokens * ranks()}),
                       .copy_of_slot_TK = i32({tokens, slots}),
                       .expert_NK = i32({N, slots}),
                       .weight_NK = allocate(store, {N, slots}, DType::f32),
                       .counts = std::make_shared<nn::ExchangeCounts>()}};
}

TensorView ExpertDispatcher::send_out(const Exec& exec, const ConstTensorView& x_TD,
                                      const nn::DispatchPlan& plan,
                                      const nn::Overlap& overlap) const {
  const nn::ExchangeCounts& counts = *plan.exchange.counts;
  const TensorView arrived =
      rows_like(exec, plan.row_of_slot_TK.dim(0), x_TD).rows(0, counts.received);
  const ScratchScope scope{exec};
  const TensorView leaving =
      rows_like(exec, leaving_copies(shape_of(plan)), x_TD).rows(0, counts.sent);
  ops::gather_rows(exec, {.rows_RD = leaving,
                          .x_TD = x_TD,
                          .slot_of_row_R = used(plan.exchange.slot_of_copy_S, counts.sent),
                          .slots_per_token = ranks()});
  exchange(exec, {.send = leaving, .recv = arrived, .back = false, .overlap = overlap}, counts);
  return arrived;
}

TensorView ExpertDispatcher::send_back(const Exec& exec, const ConstTensorView& rows_N,
                                       const nn::DispatchPlan& plan,
                                       const nn::Overlap& overlap) const {
  const nn::ExchangeCounts& counts = *plan.exchange.counts;
  const TensorView returned =
      rows_like(exec, leaving_copies(shape_of(plan)), rows_N).rows(0, counts.sent);
  exchange(exec, {.send = rows_N, .recv = returned, .back = true, .overlap = overlap}, counts);
  return returned;
}

void ExpertDispatcher::exchange(const Exec& exec, const Exchange& args,
                                const nn::ExchangeCounts& counts) const {
  if (exec.is_dry()) {
    if (args.overlap) args.overlap();
    return;
  }
  parts_.collectives.all_to_all_rows(exec, {.send = args.send,
                                            .send_rows = args.back ? counts.recv : counts.send,
                                            .recv = args.recv,
                                            .recv_rows = args.back ? counts.send : counts.recv,
                                            .largest_block = counts.largest,
                                            .overlap = args.overlap});
}

void ExpertDispatcher::dispatch(const Exec& exec, const nn::DispatchForward& args,
                                const nn::DispatchPlan& plan) {
  const ScratchScope scope{exec};
  const TensorView x_ND = send_out(exec, args.x_TD, plan, args.overlap);
  ops::gather_rows(exec, {.rows_RD = args.rows_RD,
                          .x_TD = x_ND,
                          .slot_of_row_R = plan.slot_of_row_R,
                          .slots_per_token = plan.row_of_slot_TK.dim(1)});
}

void ExpertDispatcher::combine(const Exec& exec, const nn::DispatchCombine& args,
                               const nn::DispatchPlan& plan) {
  const ScratchScope scope{exec};
  const std::int64_t N = plan.exchange.counts->received;
  const TensorView partial_ND = rows_like(exec, plan.row_of_slot_TK.dim(0), args.y_TD).rows(0, N);
  ops::combine_rows(exec, {.y_TD = partial_ND,
                           .rows_RD = args.rows_RD,
                           .row_of_slot_TK = used(plan.row_of_slot_TK, N),
                           .weight_TK = used(plan.exchange.weight_NK, N),
                           .add_TD = {}});
  const TensorView partial_SD = send_back(exec, partial_ND, plan, {});
  ops::combine_rows(exec, {.y_TD = args.y_TD,
                           .rows_RD = partial_SD,
                           .row_of_slot_TK = plan.exchange.copy_of_rank_TP,
                           .weight_TK = {},
                           .add_TD = args.add_TD});
}

void ExpertDispatcher::combine_backward(const Exec& exec, const nn::DispatchCombineBackward& args,
                                        const nn::DispatchPlan& plan) {
  const ScratchScope scope{exec};
  ops::take(exec,
            {.out = args.weight_R, .values = plan.exchange.weight_NK, .index = plan.slot_of_row_R});
  const TensorView dy_ND = send_out(exec, args.dy_TD, plan, {});
  ops::gather_rows(exec, {.rows_RD = args.drows_RD,
                          .x_TD = dy_ND,
                          .slot_of_row_R = plan.slot_of_row_R,
                          .slots_per_token = plan.row_of_slot_TK.dim(1)});
}

void ExpertDispatcher::weight_backward(const Exec& exec, const nn::DispatchWeightBackward& args,
                                       const nn::DispatchPlan& plan) {
  const ScratchScope scope{exec};
  const std::int64_t N = plan.exchange.counts->received;
  const TensorView dweight_NK =
      rows_like(exec, plan.row_of_slot_TK.dim(0), plan.exchange.weight_NK).rows(0, N);
  ops::take(exec,
            {.out = dweight_NK, .values = args.dweight_R, .index = used(plan.row_of_slot_TK, N)});
  const TensorView dweight_SK = send_back(exec, dweight_NK, plan, {});
  ops::gather_slots(exec, {.y_TK = args.dweight_TK,
                           .x_SK = dweight_SK,
                           .copy_of_slot_TK = plan.exchange.copy_of_slot_TK});
}

void ExpertDispatcher::dispatch_backward(const Exec& exec, const nn::DispatchBackward& args,
                                         const nn::DispatchPlan& plan) {
  const ScratchScope scope{exec};
  const std::int64_t N = plan.exchange.counts->received;
  const TensorView partial_ND = rows_like(exec, plan.row_of_slot_TK.dim(0), args.dx_TD).rows(0, N);
  ops::combine_rows(exec, {.y_TD = partial_ND,
                           .rows_RD = args.drows_RD,
                           .row_of_slot_TK = used(plan.row_of_slot_TK, N),
                           .weight_TK = {},
                           .add_TD = {}});
  const TensorView partial_SD = send_back(exec, partial_ND, plan, args.overlap);
  ops::combine_rows(exec, {.y_TD = args.dx_TD,
                           .rows_RD = partial_SD,
                           .row_of_slot_TK = plan.exchange.copy_of_rank_TP,
                           .weight_TK = {},
                           .add_TD = args.add_TD});
}

}  // namespace shoal::parallel
