#pragma once
#include <vector>

#include "shoal/comm/message_plan.hpp"
#include "shoal/pipeline/timeline.hpp"

namespace shoal::pipeline {

/// A message between two ranks in an execution of a schedule.
struct TimedMessage {
  int from = 0, to = 0;
  comm::MessageTag tag;
  double made = 0.0;   ///< end of the action that sends it
  double taken = 0.0;  ///< start of the action that reads it
};
/// Of all ranks, in the order in which they are made.
[[nodiscard]] std::vector<TimedMessage> timed_messages(const Timeline& timeline);

}  // namespace shoal::pipeline
