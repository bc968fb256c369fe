#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "shoal/base/clock.hpp"
#include "shoal/base/error.hpp"
#include "shoal/ops/exchange.hpp"
#include "shoal/ops/permute.hpp"
#include "shoal/parallel/expert_dispatcher.hpp"

// The plan of an exchange: who sends how many copies to whom, and where the arrivals go.
namespace shoal::parallel {

/// What every rank announced, one row a rank: its tokens, copies for each rank, slots of each
/// expert.
class ExpertDispatcher::CountTable {
 public:
  CountTable(std::vector<std::int32_t> values, int ranks, std::int64_t experts)
      : values_{std::move(values)}, ranks_{ranks}, experts_{experts} {}

  [[nodiscard]] std::int64_t tokens(int rank) const { return at(rank, 0); }
  [[nodiscard]] std::int64_t copies(int from, int to) const { return at(from, 1 + to); }
  /// Rows of all experts on `rank`.
  [[nodiscard]] std::int64_t rows(int rank) const {
    const std::int64_t here = experts_ / ranks_;
    std::int64_t sum = 0;
    for (int from = 0; from < ranks_; ++from) {
      for (std::int64_t e = rank * here; e < (rank + 1) * here; ++e)
        sum += at(from, 1 + ranks_ + e);
    }
    return sum;
  }
  [[nodiscard]] std::int64_t most_rows() const {
    std::int64_t most = 0;
    for (int r = 0; r < ranks_; ++r) most = std::max(most, rows(r));
    return most;
  }

 private:
  [[nodiscard]] std::int64_t at(int rank, std::int64_t column) const {
    return values_[static_cast<std::size_t>(rank * (1 + ranks_ + experts_) + column)];
  }

  std::vector<std::int32_t> values_;
  int ranks_;
  std::int64_t experts_;
};

void ExpertDispatcher::plan(const Exec& exec, const nn::DispatchPlan& plan,
                            const nn::DispatchRouting& routing) {
  const ScratchScope scope{exec};
  const ExchangeShape shape = shape_of(plan);
  const TensorView target_TP = scratch(exec, {shape.tokens, shape.ranks}, DType::i32);
  const TensorView count_P = scratch(exec, {shape.ranks}, DType::i32);
  const nn::DispatchRouting kept_slots{.index_TK = within_capacity(exec, routing.index_TK),
                                       .weight_TK = routing.weight_TK};
  ops::exchange_targets(
      exec, {.target_TP = target_TP, .count_E = plan.count_E, .index_TK = kept_slots.index_TK});
  sort_copies(exec, plan, {.target_TP = target_TP, .count_P = count_P, .capacity = 0});
  if (exec.is_dry()) {
    plan_worst_case(plan);
  } else {
    const CountTable table = exchange_counts(exec, plan, count_P);
    const std::int64_t kept = agree_on_overflow(exec, plan, table);
    if (kept > 0) {
      sort_copies(exec, plan, {.target_TP = target_TP, .count_P = count_P, .capacity = kept});
    }
    fill_counts(plan, table, kept);
  }
  place_arrivals(exec, plan, kept_slots);
}

/// The experts of each slot, in scratch where a capacity drops some.
ConstTensorView ExpertDispatcher::within_capacity(const Exec& exec,
                                                  const ConstTensorView& index_TK) const {
  const std::int64_t slots = index_TK.elements(), E = parts_.experts;
  const std::int64_t capacity = nn::expert_capacity(parts_.capacity_factor, slots, E);
  if (capacity == 0) return index_TK;
  const TensorView kept_TK = scratch(exec, index_TK.shape(), DType::i32);
  const ScratchScope scope{exec};
  const TensorView row_of_slot_TK = scratch(exec, index_TK.shape(), DType::i32);
  ops::route_plan(exec, {.count_E = scratch(exec, {E}, DType::i32),
                         .offset_E1 = scratch(exec, {E + 1}, DType::i32),
                         .row_of_slot_TK = row_of_slot_TK,
                         .slot_of_row_R = scratch(exec, {slots}, DType::i32),
                         .index_TK = index_TK,
                         .capacity = capacity});
  ops::drop_slots(exec,
                  {.kept_TK = kept_TK, .index_TK = index_TK, .row_of_slot_TK = row_of_slot_TK});
  return kept_TK;
}

void ExpertDispatcher::sort_copies(const Exec& exec, const nn::DispatchPlan& plan,
                                   const Copies& copies) const {
  const ScratchScope scope{exec};
  ops::route_plan(exec, {.count_E = copies.count_P,
                         .offset_E1 = scratch(exec, {ranks() + 1}, DType::i32),
                         .row_of_slot_TK = plan.exchange.copy_of_rank_TP,
                         .slot_of_row_R = plan.exchange.slot_of_copy_S,
                         .index_TK = copies.target_TP,
                         .capacity = copies.capacity,
                         .sparse = true});
}

/// On a dry Exec everything that can travel does.
void ExpertDispatcher::plan_worst_case(const nn::DispatchPlan& plan) const {
  nn::ExchangeCounts& counts = *plan.exchange.counts;
  counts.sent = leaving_copies(shape_of(plan));
  counts.received = plan.row_of_slot_TK.dim(0);
}

ExpertDispatcher::CountTable ExpertDispatcher::exchange_counts(const Exec& exec,
                                                               const nn::DispatchPlan& plan,
                                                               const TensorView& count_P) const {
  const std::int64_t tokens = shape_of(plan).tokens, columns = 1 + ranks() + parts_.experts;
  auto* mine = counts_.as<std::int32_t>();
  const Stopwatch watch;
  download(exec, mine + 1, count_P.bytes_begin(), count_P.bytes());
  download(exec, mine + 1 + ranks(), plan.count_E.bytes_begin(), plan.count_E.bytes());
  exec.synchronize();
  mine[0] = static_cast<std::int32_t>(tokens);
  std::vector<std::int32_t> all(static_cast<std::size_t>(ranks() * columns));
  parts_.group.all_gather(std::span{mine, static_cast<std::size_t>(columns)}, all);
  parts_.group.journal()->waits().add("expert counts", watch.seconds());
  CountTable table{std::move(all), ranks(), parts_.experts};
  for (int r = 0; r < ranks(); ++r) {
    expect(table.tokens(r) == tokens, "ranks of an expert exchange plan different micro-batches");
  }
  return table;
}

/// All ranks read the same table, so all come to the same result: the copies that each rank keeps
/// for each rank, 0 for all.
std::int64_t ExpertDispatcher::agree_on_overflow(const Exec& exec, const nn::DispatchPlan& plan,
                                                 const CountTable& table) const {
  const ExchangeShape shape = shape_of(plan);
  const std::int64_t room = plan.slot_of_row_R.dim(0), most = table.most_rows();
  if (most <= room) return 0;
  const double needed = static_cast<double>(most) / static_cast<double>(shape.tokens * shape.slots);
  expect(!parts_.overflow.absent(), "more rows arrive at an expert rank than its buffer holds: " +
                                        std::to_string(most) + " of " + std::to_string(room));
  ops::raise_to(exec, parts_.overflow, static_cast<float>(needed));
  const std::int64_t rows_of_a_copy = std::min(shape.slots, experts_here());
  return room / (ranks() * rows_of_a_copy);
}

void ExpertDispatcher::fill_counts(const nn::DispatchPlan& plan, const CountTable& table,
                                   std::int64_t kept) const {
  const int P = ranks(), me = parts_.group.rank();
  const auto copies = [&](int from, int to) {
    const std::int64_t all = table.copies(from, to);
    return kept > 0 ? std::min(all, kept) : all;
  };
  nn::ExchangeCounts& counts = *plan.exchange.counts;
  counts = {};
  for (int r = 0; r < P; ++r) {
    counts.send.push_back(copies(me, r));
    counts.recv.push_back(copies(r, me));
    counts.sent += counts.send.back();
    counts.received += counts.recv.back();
    for (int to = 0; to < P; ++to) {
      if (to != r) counts.largest = std::max(counts.largest, copies(r, to));
    }
  }
}

void ExpertDispatcher::place_arrivals(const Exec& exec, const nn::DispatchPlan& plan,
                                      const nn::DispatchRouting& routing) const {
  const ScratchScope scope{exec};
  const nn::DispatchExchange& x = plan.exchange;
  const nn::ExchangeCounts& counts = *x.counts;
  const std::int64_t N = counts.received, width = 2 * x.expert_NK.dim(1);
  const TensorView leaving = scratch(exec, {leaving_copies(shape_of(plan)), width}, DType::i32);
  const TensorView arrived = scratch(exec, {x.expert_NK.dim(0), width}, DType::i32);
  const TensorView expert_NK = x.expert_NK.rows(0, N);
  ops::exchange_pack(exec, {.choice_SC = leaving.rows(0, counts.sent),
                            .copy_of_slot_TK = x.copy_of_slot_TK,
                            .index_TK = routing.index_TK,
                            .weight_TK = routing.weight_TK,
                            .copy_of_rank_TP = x.copy_of_rank_TP,
                            .slot_of_copy_S = x.slot_of_copy_S.rows(0, counts.sent),
                            .experts_per_rank = experts_here()});
  exchange(exec, {.send = leaving.rows(0, counts.sent), .recv = arrived.rows(0, N), .back = false},
           counts);
  ops::exchange_unpack(exec, {.expert_NK = expert_NK,
                              .weight_NK = x.weight_NK.rows(0, N),
                              .choice_NC = arrived.rows(0, N)});
  ops::route_plan(exec, {.count_E = scratch(exec, {experts_here()}, DType::i32),
                         .offset_E1 = plan.offset_E1,
                         .row_of_slot_TK = plan.row_of_slot_TK.rows(0, N),
                         .slot_of_row_R = plan.slot_of_row_R,
                         .index_TK = expert_NK,
                         .sparse = true});
}

}  // namespace shoal::parallel
