#include "shoal/pipeline/timeline.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "shoal/base/error.hpp"

namespace shoal::pipeline {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// When each model chunk finished its forward and its backward_input of each micro-batch.
class Finished {
 public:
  explicit Finished(const ScheduleShape& shape)
      : micro_batches_{shape.micro_batches},
        forward_(pair_index(shape.model_chunks(), 0, shape.micro_batches), kNever),
        gradient_{forward_} {}
  [[nodiscard]] double& forward(int model_chunk, int micro_batch) {
    return forward_.at(pair_index(model_chunk, micro_batch, micro_batches_));
  }
  [[nodiscard]] double& gradient(int model_chunk, int micro_batch) {
    return gradient_.at(pair_index(model_chunk, micro_batch, micro_batches_));
  }

 private:
  int micro_batches_;
  std::vector<double> forward_, gradient_;
};

class Simulation {
 public:
  Simulation(const ScheduleShape& shape, const std::vector<ActionList>& schedules,
             const Costs& costs)
      : shape_{shape}, schedules_{schedules}, costs_{costs}, finished_{shape} {
    expect(std::ssize(schedules) == shape.stages, "simulate: one action list a rank");
    expect(costs.chunks.size() == 1 || std::ssize(costs.chunks) == shape.model_chunks(),
           "simulate: one cost for each model chunk, or one for all");
    next_.resize(schedules.size());
    clock_.resize(schedules.size());
  }

  [[nodiscard]] Timeline run() {
    std::vector<std::vector<TimelineEvent>> events(schedules_.size());
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t r = 0; r < schedules_.size(); ++r) {
        while (const auto event = step(static_cast<int>(r))) {
          events[r].push_back(*event);
          moved = true;
        }
      }
    }
    expect_all_done();
    return collect(events);
  }

 private:
  [[nodiscard]] const ChunkCost& cost(int chunk) const {
    return costs_.chunks.size() == 1 ? costs_.chunks[0]
                                     : costs_.chunks[static_cast<std::size_t>(chunk)];
  }
  [[nodiscard]] double duration(Verb verb, int chunk) const {
    const ChunkCost& c = cost(chunk);
    if (verb == Verb::forward) return c.forward;
    if (verb == Verb::backward_input) return c.backward_input;
    if (verb == Verb::backward_weight) return c.backward_weight;
    return c.backward_input + c.backward_weight;
  }
  /// When what `from` made is on `rank`.
  [[nodiscard]] double arrival(double end, int from, int rank) const {
    return end + (place_of(shape_, from).rank == rank ? 0.0 : costs_.transfer);
  }

  /// When everything that an action reads is there; kNever when it is not yet known.
  [[nodiscard]] double ready(int rank, const Action& a) {
    const int chunk = model_chunk(shape_, {rank, a.chunk});
    if (a.verb == Verb::forward) {
      if (chunk == 0) return 0.0;
      return arrival(finished_.forward(chunk - 1, a.micro_batch), chunk - 1, rank);
    }
    if (a.verb == Verb::backward_weight) return finished_.gradient(chunk, a.micro_batch);
    const double own = finished_.forward(chunk, a.micro_batch);
    if (chunk == shape_.model_chunks() - 1) return own;
    return std::max(own, arrival(finished_.gradient(chunk + 1, a.micro_batch), chunk + 1, rank));
  }

  [[nodiscard]] std::optional<TimelineEvent> step(int rank) {
    const auto r = static_cast<std::size_t>(rank);
    if (next_[r] == schedules_[r].size()) return std::nullopt;
    const Action& a = schedules_[r][next_[r]];
    const double start = std::max(clock_[r], ready(rank, a));
    if (start == kNever) return std::nullopt;
    const int chunk = model_chunk(shape_, {rank, a.chunk});
    const double end = start + duration(a.verb, chunk);
    if (a.verb == Verb::forward) finished_.forward(chunk, a.micro_batch) = end;
    if (a.verb == Verb::backward || a.verb == Verb::backward_input) {
      finished_.gradient(chunk, a.micro_batch) = end;
    }
    clock_[r] = end;
    ++next_[r];
    return TimelineEvent{.rank = rank, .action = a, .start = start, .end = end};
  }

  void expect_all_done() const {
    for (std::size_t r = 0; r < schedules_.size(); ++r) {
      if (next_[r] == schedules_[r].size()) continue;
      fail("schedule", "deadlock: pipeline rank " + std::to_string(r) +
                           " waits for ever for the input of " +
                           to_string(schedules_[r][next_[r]]));
    }
  }

  [[nodiscard]] Timeline collect(const std::vector<std::vector<TimelineEvent>>& events) const {
    Timeline timeline{.shape = shape_};
    for (std::size_t r = 0; r < events.size(); ++r) {
      double busy = 0.0;
      for (const TimelineEvent& e : events[r]) {
        busy += e.end - e.start;
        timeline.events.push_back(e);
      }
      timeline.busy.push_back(busy);
      timeline.finish = std::max(timeline.finish, clock_[r]);
      timeline.peak_slots.push_back(assign_slots(schedules_[r], shape_).count);
    }
    return timeline;
  }

  const ScheduleShape& shape_;
  const std::vector<ActionList>& schedules_;
  const Costs& costs_;
  Finished finished_;
  std::vector<std::size_t> next_;
  std::vector<double> clock_;
};

double work_of(const Timeline& timeline) {
  double work = 0.0;
  for (const double busy : timeline.busy) work += busy;
  return work;
}

}  // namespace

double Timeline::bubble_share() const {
  const double whole = finish * static_cast<double>(busy.size());
  return whole > 0.0 ? 1.0 - work_of(*this) / whole : 0.0;
}

double Timeline::bubble_ratio() const {
  const double work = work_of(*this);
  return work > 0.0 ? finish * static_cast<double>(busy.size()) / work - 1.0 : 0.0;
}

Timeline simulate(const ScheduleShape& shape, const std::vector<ActionList>& schedules,
                  const Costs& costs) {
  return Simulation{shape, schedules, costs}.run();
}

Timeline simulate(const ScheduleShape& shape, const Costs& costs) {
  return simulate(shape, make_schedules(shape), costs);
}

}  // namespace shoal::pipeline
