#include "pipeline/message_times.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace shoal::pipeline {

std::vector<TimedMessage> timed_messages(const Timeline& timeline) {
  const ScheduleShape& shape = timeline.shape;
  /// Start of what each (model chunk, micro-batch) does in one direction.
  std::map<std::tuple<int, int, comm::Direction>, double> starts;
  const auto direction_of = [](const Action& a) {
    return a.verb == Verb::forward ? comm::Direction::activation : comm::Direction::gradient;
  };
  for (const TimelineEvent& e : timeline.events) {
    if (e.action.verb == Verb::backward_weight) continue;
    const int chunk = model_chunk(shape, {e.rank, e.action.chunk});
    starts[{chunk, e.action.micro_batch, direction_of(e.action)}] = e.start;
  }
  std::vector<TimedMessage> messages;
  for (const TimelineEvent& e : timeline.events) {
    if (e.action.verb == Verb::backward_weight) continue;
    const comm::Direction direction = direction_of(e.action);
    const int next = model_chunk(shape, {e.rank, e.action.chunk}) +
                     (direction == comm::Direction::activation ? 1 : -1);
    if (next < 0 || next >= shape.model_chunks()) continue;
    const ChunkPlace to = place_of(shape, next);
    if (to.rank == e.rank) continue;
    messages.push_back({.from = e.rank,
                        .to = to.rank,
                        .tag = {direction, to.chunk, e.action.micro_batch},
                        .made = e.end,
                        .taken = starts.at({next, e.action.micro_batch, direction})});
  }
  std::stable_sort(messages.begin(), messages.end(),
                   [](const TimedMessage& a, const TimedMessage& b) { return a.made < b.made; });
  return messages;
}

}  // namespace shoal::pipeline
