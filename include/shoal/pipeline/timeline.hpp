#pragma once
#include <vector>

#include "shoal/pipeline/schedule.hpp"

namespace shoal::pipeline {

/// Seconds (or any unit) of one micro-batch in one model chunk. A backward at once takes
/// backward_input + backward_weight.
struct ChunkCost {
  double forward = 1.0;
  double backward_input = 1.0;
  double backward_weight = 1.0;
};
struct Costs {
  std::vector<ChunkCost> chunks;  ///< one for each model chunk, or one for all
  double transfer = 0.0;          ///< between two ranks, after the producer's end
};

struct TimelineEvent {
  int rank = 0;
  Action action;
  double start = 0.0;
  double end = 0.0;
};

/// A schedule executed with known costs.
struct Timeline {
  ScheduleShape shape;
  std::vector<TimelineEvent> events;          ///< by rank, then in time
  double finish = 0.0;                        ///< of the last rank, the first starts at 0
  std::vector<double> busy;                   ///< of each rank
  std::vector<int> peak_slots;                ///< of each rank: live (chunk, micro-batch) pairs
  [[nodiscard]] double bubble_share() const;  ///< idle / (ranks * finish), 0 <= share < 1
  [[nodiscard]] double bubble_ratio() const;  ///< idle / work: the bubble of the papers
};

/// Executes the action lists of all ranks in order; an action starts when its rank is free and its
/// input has arrived. Throws Error when they wait for each other for ever (a deadlock) or when a
/// list needs something that nobody makes.
[[nodiscard]] Timeline simulate(const ScheduleShape& shape,
                                const std::vector<ActionList>& schedules, const Costs& costs);
/// The same for the lists of make_schedules(shape).
[[nodiscard]] Timeline simulate(const ScheduleShape& shape, const Costs& costs);

/// How many messages from one rank to another in one direction (activations or gradients) are under
/// way at once when every verb takes equal time. With room for so many, a sender that stops at a
/// full channel neither slows that execution down nor can it deadlock: the execution itself shows
/// an order in which no channel overflows. At least 1.
[[nodiscard]] int channel_depth(const ScheduleShape& shape);

}  // namespace shoal::pipeline
