#include "shoal/pipeline/schedule.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "pipeline/schedule_rules.hpp"
#include "shoal/base/error.hpp"

namespace shoal::pipeline {
namespace {

constexpr std::array<std::pair<ScheduleKind, std::string_view>, 5> kNames = {
    {{ScheduleKind::gpipe, "gpipe"},
     {ScheduleKind::one_f_one_b, "1f1b"},
     {ScheduleKind::interleaved, "interleaved"},
     {ScheduleKind::zb_h1, "zb-h1"},
     {ScheduleKind::zbv, "zbv"}}};

/// Takes the lowest free slot at each action that `takes`, and frees it after each that `frees`.
template <class Takes, class Frees>
SlotPlan assign(std::span<const Action> actions, const ScheduleShape& shape, Takes takes,
                Frees frees) {
  const std::size_t pairs = pair_index(shape.chunks, 0, shape.micro_batches);
  SlotPlan plan{.slots = std::vector<int>(pairs, -1), .micro_batches = shape.micro_batches};
  std::vector<bool> taken;
  for (const Action& a : actions) {
    int& slot = plan.slots[pair_index(a.chunk, a.micro_batch, shape.micro_batches)];
    if (takes(a.verb)) {
      const auto free = std::find(taken.begin(), taken.end(), false);
      slot = static_cast<int>(free - taken.begin());
      if (free == taken.end()) taken.push_back(false);
      taken[static_cast<std::size_t>(slot)] = true;
    } else if (frees(a.verb)) {
      expect(slot >= 0, "a slot is freed before it is taken");
      taken[static_cast<std::size_t>(slot)] = false;
    }
  }
  plan.count = static_cast<int>(taken.size());
  return plan;
}

bool in_a_v(const ScheduleShape& shape) {
  return shape.kind == ScheduleKind::zbv && shape.chunks == 2;
}

}  // namespace

std::string_view name(ScheduleKind kind) {
  return kNames[static_cast<std::size_t>(kind)].second;
}

ScheduleKind schedule_from_name(std::string_view text) {
  for (const auto& [kind, known] : kNames) {
    if (text == known) return kind;
  }
  throw InputError{"parallel.schedule = " + std::string{text} +
                   ": allowed: gpipe 1f1b interleaved zb-h1 zbv"};
}

std::string_view name(Verb verb) {
  constexpr std::array<std::string_view, 4> kVerbs = {"forward", "backward", "backward_input",
                                                      "backward_weight"};
  return kVerbs[static_cast<std::size_t>(verb)];
}

std::string to_string(const Action& action) {
  return std::string{name(action.verb)} + " of chunk " + std::to_string(action.chunk) +
         ", micro-batch " + std::to_string(action.micro_batch);
}

void require_valid(const ScheduleShape& s) {
  const std::string who = "parallel.schedule = " + std::string{name(s.kind)} + ": ";
  require(s.stages >= 1, who + "needs at least one stage");
  require(s.micro_batches >= 1, who + "needs at least one micro-batch a step");
  const bool alone = s.stages == 1 && s.chunks == 1;
  if (s.kind == ScheduleKind::interleaved) {
    require(s.chunks >= 2 || alone, who + "needs parallel.chunks >= 2");
  } else if (s.kind == ScheduleKind::zbv) {
    require(s.chunks == 2 || alone, who + "needs parallel.chunks = 2");
  } else {
    require(s.chunks == 1, who + "has one chunk a rank: parallel.chunks must be 1");
  }
}

ActionList make_schedule(const ScheduleShape& shape, int rank) {
  require_valid(shape);
  expect(rank >= 0 && rank < shape.stages, "make_schedule: no such pipeline rank");
  if (shape.kind == ScheduleKind::gpipe) return gpipe_actions(shape);
  if (shape.kind == ScheduleKind::zb_h1) return zb_h1_actions(shape, rank);
  if (shape.chunks == 1) return one_f_one_b_actions(shape, rank);
  return in_a_v(shape) ? zbv_actions(shape, rank) : interleaved_actions(shape, rank);
}

std::vector<ActionList> make_schedules(const ScheduleShape& shape) {
  std::vector<ActionList> all;
  all.reserve(static_cast<std::size_t>(shape.stages));
  for (int rank = 0; rank < shape.stages; ++rank) all.push_back(make_schedule(shape, rank));
  return all;
}

int model_chunk(const ScheduleShape& shape, const ChunkPlace& place) {
  if (in_a_v(shape) && place.chunk == 1) return 2 * shape.stages - 1 - place.rank;
  return place.rank + place.chunk * shape.stages;
}

ChunkPlace place_of(const ScheduleShape& shape, int model_chunk) {
  const int rank = model_chunk % shape.stages, chunk = model_chunk / shape.stages;
  if (in_a_v(shape) && chunk == 1) return {.rank = shape.stages - 1 - rank, .chunk = 1};
  return {.rank = rank, .chunk = chunk};
}

SlotPlan assign_slots(std::span<const Action> actions, const ScheduleShape& shape) {
  return assign(
      actions, shape, [](Verb verb) { return verb == Verb::forward; },
      [](Verb verb) { return verb == Verb::backward || verb == Verb::backward_weight; });
}

SlotPlan assign_delta_slots(std::span<const Action> actions, const ScheduleShape& shape) {
  return assign(
      actions, shape, [](Verb verb) { return verb == Verb::backward_input; },
      [](Verb verb) { return verb == Verb::backward_weight; });
}

}  // namespace shoal::pipeline
