#include "shoal/pipeline/message_plan.hpp"

#include <algorithm>

#include "pipeline/message_times.hpp"

namespace shoal::pipeline {
namespace {

/// Buffers of arriving messages, each taken from its tick until after the message was read: what is
/// read at the very tick of another message may not have left yet.
class Arrivals {
 public:
  [[nodiscard]] int take(const TimedMessage& m) {
    const auto free = std::find_if(free_after_.begin(), free_after_.end(),
                                   [&](double last) { return last < m.made; });
    const auto buffer = free - free_after_.begin();
    if (free == free_after_.end()) free_after_.push_back(0.0);
    free_after_[static_cast<std::size_t>(buffer)] = m.taken;
    return static_cast<int>(buffer);
  }
  [[nodiscard]] int count() const { return static_cast<int>(free_after_.size()); }

 private:
  std::vector<double> free_after_;
};

}  // namespace

comm::MessagePlan message_plan(const ScheduleShape& shape, int rank) {
  const Timeline timeline = simulate(shape, {.chunks = {ChunkCost{}}});
  comm::MessagePlan plan;
  std::vector<double> ticks;
  Arrivals arrivals;
  for (const TimedMessage& m : timed_messages(timeline)) {
    if (m.from != rank && m.to != rank) continue;
    if (ticks.empty() || ticks.back() != m.made) {
      ticks.push_back(m.made);
      plan.ticks.emplace_back();
    }
    const bool sends = m.from == rank;
    plan.ticks.back().push_back({.sends = sends,
                                 .peer = sends ? m.to : m.from,
                                 .tag = m.tag,
                                 .buffer = sends ? -1 : arrivals.take(m)});
  }
  plan.arrivals = arrivals.count();
  for (const TimelineEvent& e : timeline.events) {
    if (e.rank != rank) continue;
    const auto due = std::upper_bound(ticks.begin(), ticks.end(), e.start) - ticks.begin();
    plan.due.push_back(static_cast<int>(due));
  }
  return plan;
}

comm::MessagePlan forward_message_plan(const ScheduleShape& shape, int rank) {
  comm::MessagePlan plan{.arrivals = 1};  // what arrives is read at once
  for (int c = 0; c + 1 < shape.model_chunks(); ++c) {
    const ChunkPlace from = place_of(shape, c), to = place_of(shape, c + 1);
    if (from.rank == to.rank || (from.rank != rank && to.rank != rank)) continue;
    const bool sends = from.rank == rank;
    plan.ticks.push_back({{.sends = sends,
                           .peer = sends ? to.rank : from.rank,
                           .tag = {.chunk = to.chunk},
                           .buffer = sends ? -1 : 0}});
  }
  return plan;
}

}  // namespace shoal::pipeline
