#include <algorithm>
#include <map>
#include <tuple>

#include "shoal/pipeline/timeline.hpp"

namespace shoal::pipeline {
namespace {

/// (sender, receiver, gradient or activation).
using Channel = std::tuple<int, int, bool>;
/// Sent at .first, taken at .second.
using Stay = std::pair<double, double>;

/// When each (model chunk, micro-batch) made, and took, activations and gradients.
struct Times {
  std::map<std::tuple<int, int, bool>, double> made, taken;
};

Times times_of(const Timeline& timeline) {
  Times times;
  for (const TimelineEvent& e : timeline.events) {
    if (e.action.verb == Verb::backward_weight) continue;
    const int chunk = model_chunk(timeline.shape, {e.rank, e.action.chunk});
    const bool gradient = e.action.verb != Verb::forward;
    times.made[{chunk, e.action.micro_batch, gradient}] = e.end;
    times.taken[{chunk, e.action.micro_batch, gradient}] = e.start;
  }
  return times;
}

/// The most stays that meet at the start of one of them, ends included.
int peak_of(const std::vector<Stay>& stays) {
  int peak = 0;
  for (const Stay& at : stays) {
    const auto there = [&](const Stay& s) { return s.first <= at.first && at.first <= s.second; };
    peak = std::max(peak, static_cast<int>(std::count_if(stays.begin(), stays.end(), there)));
  }
  return peak;
}

}  // namespace

int channel_depth(const ScheduleShape& shape) {
  const Times times = times_of(simulate(shape, {.chunks = {ChunkCost{}}}));
  std::map<Channel, std::vector<Stay>> channels;
  for (const auto& [key, made] : times.made) {
    const auto& [chunk, micro_batch, gradient] = key;
    const int next = gradient ? chunk - 1 : chunk + 1;
    if (next < 0 || next >= shape.model_chunks()) continue;
    const int from = place_of(shape, chunk).rank, to = place_of(shape, next).rank;
    if (from == to) continue;
    channels[{from, to, gradient}].emplace_back(made,
                                                times.taken.at({next, micro_batch, gradient}));
  }
  int depth = 1;
  for (const auto& [channel, stays] : channels) depth = std::max(depth, peak_of(stays));
  return depth;
}

}  // namespace shoal::pipeline
