#include "pipeline/schedule_rules.hpp"

#include <algorithm>

namespace shoal::pipeline {
namespace {

/// One (chunk, micro-batch) in the order in which a rank meets them.
struct Unit {
  int chunk = 0;
  int micro_batch = 0;
};

/// Micro-batches go in groups of at least p (all of them when there are fewer), as equal as can be,
/// larger ones first: a group passes all chunks before the next one starts. `descending`: the order
/// of backward, which meets the last chunk first.
std::vector<Unit> grouped_units(const ScheduleShape& s, bool descending) {
  const int groups = std::max(1, s.micro_batches / s.stages);
  std::vector<Unit> units;
  int first = 0;
  for (int g = 0; g < groups; ++g) {
    const int size = s.micro_batches / groups + (g < s.micro_batches % groups ? 1 : 0);
    for (int c = 0; c < s.chunks; ++c) {
      for (int i = 0; i < size; ++i) {
        units.push_back({descending ? s.chunks - 1 - c : c, first + i});
      }
    }
    first += size;
  }
  return units;
}

/// `warm_up` forwards, then forwards and backwards in turn, then the backwards that are left.
ActionList alternate(const std::vector<Unit>& forward, const std::vector<Unit>& backward,
                     std::size_t warm_up) {
  ActionList actions;
  std::size_t f = 0, b = 0;
  const auto add = [&](Verb verb, const Unit& u) {
    actions.push_back({verb, u.chunk, u.micro_batch});
  };
  while (f < std::min(warm_up, forward.size())) add(Verb::forward, forward[f++]);
  while (b < backward.size()) {
    if (f < forward.size()) add(Verb::forward, forward[f++]);
    add(Verb::backward, backward[b++]);
  }
  return actions;
}

}  // namespace

ActionList gpipe_actions(const ScheduleShape& s) {
  const std::vector<Unit> units = grouped_units(s, false);
  return alternate(units, units, units.size());
}

ActionList one_f_one_b_actions(const ScheduleShape& s, int rank) {
  const std::vector<Unit> units = grouped_units(s, false);
  return alternate(units, units, static_cast<std::size_t>(s.stages - 1 - rank));
}

/// Before its first backward the last rank passes the first group through all chunks but the last;
/// a rank before it makes two more forwards, one for each way of the round trip.
ActionList interleaved_actions(const ScheduleShape& s, int rank) {
  const int groups = std::max(1, s.micro_batches / s.stages);
  const int largest = (s.micro_batches + groups - 1) / groups;
  const int warm_up = (s.chunks - 1) * largest + 2 * (s.stages - 1 - rank);
  return alternate(grouped_units(s, false), grouped_units(s, true),
                   static_cast<std::size_t>(warm_up));
}

/// 1F1B, where backward_weight follows `rank` micro-batches later: stage s of 1F1B keeps p - s, so
/// that s more may wait.
ActionList zb_h1_actions(const ScheduleShape& s, int rank) {
  ActionList actions;
  for (const Action& a : one_f_one_b_actions(s, rank)) {
    if (a.verb == Verb::forward) {
      actions.push_back(a);
      continue;
    }
    actions.push_back({Verb::backward_input, 0, a.micro_batch});
    if (a.micro_batch >= rank) {
      actions.push_back({Verb::backward_weight, 0, a.micro_batch - rank});
    }
  }
  for (int i = std::max(0, s.micro_batches - rank); i < s.micro_batches; ++i) {
    actions.push_back({Verb::backward_weight, 0, i});
  }
  return actions;
}

}  // namespace shoal::pipeline
