#include <algorithm>
#include <map>
#include <tuple>

#include "pipeline/message_times.hpp"

namespace shoal::pipeline {
namespace {

/// Sent at .first, taken at .second.
using Stay = std::pair<double, double>;

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
  std::map<std::tuple<int, int, comm::Direction>, std::vector<Stay>> channels;
  for (const TimedMessage& m : timed_messages(simulate(shape, {.chunks = {ChunkCost{}}}))) {
    channels[{m.from, m.to, m.tag.direction}].emplace_back(m.made, m.taken);
  }
  int depth = 1;
  for (const auto& [channel, stays] : channels) depth = std::max(depth, peak_of(stays));
  return depth;
}

}  // namespace shoal::pipeline
