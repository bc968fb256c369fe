// What every schedule must keep, whatever its numbers.
#include "shoal/pipeline/schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "shoal/base/error.hpp"
#include "shoal/pipeline/timeline.hpp"
#include "support/throws.hpp"

namespace shoal::pipeline {
namespace {

constexpr ScheduleKind kKinds[] = {ScheduleKind::gpipe, ScheduleKind::one_f_one_b,
                                   ScheduleKind::interleaved, ScheduleKind::zb_h1,
                                   ScheduleKind::zbv};

std::vector<int> chunk_counts(ScheduleKind kind) {
  if (kind == ScheduleKind::interleaved) return {2, 3, 4};
  return {kind == ScheduleKind::zbv ? 2 : 1};
}

/// Every shape up to 8 stages and 20 micro-batches.
template <class Body>
void for_each_shape(const Body& body) {
  for (const ScheduleKind kind : kKinds) {
    for (const int chunks : chunk_counts(kind)) {
      for (int p = 1; p <= 8; ++p) {
        for (int m = 1; m <= 20; ++m) body(ScheduleShape{kind, p, m, chunks});
      }
    }
  }
}
std::string text(const ScheduleShape& s) {
  return std::string{name(s.kind)} + " p=" + std::to_string(s.stages) +
         " m=" + std::to_string(s.micro_batches) + " v=" + std::to_string(s.chunks);
}

/// Each verb of each (chunk, micro-batch): how often, and in which order of micro-batches.
::testing::AssertionResult complete(const ActionList& actions, const ScheduleShape& s) {
  std::map<std::tuple<Verb, int>, int> next;
  for (const Action& a : actions) {
    int& expected = next[{a.verb, a.chunk}];
    if (a.micro_batch != expected++) return ::testing::AssertionFailure() << to_string(a);
  }
  for (int c = 0; c < s.chunks; ++c) {
    const auto count = [&](Verb verb) { return next[{verb, c}]; };
    const bool split = count(Verb::backward_input) == s.micro_batches &&
                       count(Verb::backward_weight) == s.micro_batches &&
                       count(Verb::backward) == 0;
    const bool whole = count(Verb::backward) == s.micro_batches &&
                       count(Verb::backward_input) + count(Verb::backward_weight) == 0;
    if (count(Verb::forward) != s.micro_batches || !(split || whole)) {
      return ::testing::AssertionFailure() << "chunk " << c << " is not complete";
    }
  }
  return ::testing::AssertionSuccess();
}

TEST(Schedule, HoldsEachVerbOfEachMicroBatchOnceAndInOrder) {
  for_each_shape([](const ScheduleShape& s) {
    for (const ActionList& actions : make_schedules(s))
      EXPECT_TRUE(complete(actions, s)) << text(s);
  });
}

TEST(Schedule, NeverDeadlocks) {
  for_each_shape([](const ScheduleShape& s) {
    EXPECT_NO_THROW(static_cast<void>(simulate(s, {.chunks = {ChunkCost{}}}))) << text(s);
  });
}

TEST(Schedule, KeepsAsManyMicroBatchesAsPublished) {
  for_each_shape([](const ScheduleShape& s) {
    const int p = s.stages, m = s.micro_batches, v = s.chunks;
    const int groups = std::max(1, m / p), group = (m + groups - 1) / groups;
    for (int r = 0; r < p; ++r) {
      const int count = assign_slots(make_schedule(s, r), s).count;
      switch (s.kind) {
        case ScheduleKind::gpipe:
          EXPECT_EQ(count, m) << text(s);
          break;
        case ScheduleKind::one_f_one_b:
          EXPECT_EQ(count, std::min(m, p - r)) << text(s);
          break;
        case ScheduleKind::interleaved:
          EXPECT_EQ(count, std::min(m * v, (v - 1) * group + 2 * (p - 1 - r) + 1)) << text(s);
          break;
        case ScheduleKind::zb_h1:  // the first stage's memory of 1F1B, on all stages
          EXPECT_EQ(count, std::min(m, p)) << text(s);
          break;
        case ScheduleKind::zbv:  // chunks of half the size
          EXPECT_LE(count, std::min(2 * m, 2 * p)) << text(s);
          EXPECT_TRUE(m < 2 * p - 1 || count == 2 * p) << text(s);
          break;
      }
    }
  });
}

TEST(Schedule, KeepsFewDeltas) {
  for_each_shape([](const ScheduleShape& s) {
    for (int r = 0; r < s.stages; ++r) {
      const int count = assign_delta_slots(make_schedule(s, r), s).count;
      if (s.kind == ScheduleKind::zb_h1) {
        EXPECT_EQ(count, std::min(s.micro_batches, r + 1)) << text(s);
      } else if (s.kind == ScheduleKind::zbv && s.chunks == 2) {
        EXPECT_LE(count, std::min(2 * s.micro_batches, 2 * r + 1)) << text(s);
      } else {
        EXPECT_EQ(count, 0) << text(s);
      }
    }
  });
}

TEST(Schedule, PlacesEveryModelChunkOnce) {
  for_each_shape([](const ScheduleShape& s) {
    std::set<int> seen;
    for (int r = 0; r < s.stages; ++r) {
      for (int c = 0; c < s.chunks; ++c) {
        const ChunkPlace place{r, c};
        const int chunk = model_chunk(s, place);
        EXPECT_EQ(place_of(s, chunk), place) << text(s);
        seen.insert(chunk);
      }
    }
    EXPECT_EQ(std::ssize(seen), s.model_chunks());
    EXPECT_EQ(*seen.begin(), 0);
    EXPECT_EQ(*seen.rbegin(), s.model_chunks() - 1);
  });
  const ScheduleShape v{ScheduleKind::zbv, 4, 8, 2};
  EXPECT_EQ(model_chunk(v, {0, 1}), 7) << "the V ends where it starts";
  EXPECT_EQ(model_chunk(v, {3, 1}), 4);
  const ScheduleShape round{ScheduleKind::interleaved, 4, 8, 2};
  EXPECT_EQ(model_chunk(round, {1, 1}), 5);
}

TEST(Schedule, OfOneForwardOneBackwardIsTheTextbooks) {
  const ActionList last = make_schedule({ScheduleKind::one_f_one_b, 2, 2}, 1);
  const ActionList expected = {
      {Verb::forward, 0, 0}, {Verb::backward, 0, 0}, {Verb::forward, 0, 1}, {Verb::backward, 0, 1}};
  EXPECT_EQ(last, expected);
}

TEST(Schedule, ThatDoesNotFitIsRefusedByItsKey) {
  const auto refuses = [](const ScheduleShape& s) {
    return test::throws_with<InputError>([&] { static_cast<void>(make_schedule(s, 0)); },
                                         "parallel.schedule");
  };
  EXPECT_TRUE(refuses({ScheduleKind::interleaved, 2, 4, 1}));
  EXPECT_TRUE(refuses({ScheduleKind::zbv, 2, 4, 3}));
  EXPECT_TRUE(refuses({ScheduleKind::zb_h1, 2, 4, 2}));
  EXPECT_TRUE(refuses({ScheduleKind::gpipe, 2, 0, 1}));
  EXPECT_TRUE(test::throws_with<InputError>([] { static_cast<void>(schedule_from_name("2f1b")); },
                                            "parallel.schedule = 2f1b"));
  for (const ScheduleKind kind : kKinds) EXPECT_EQ(schedule_from_name(name(kind)), kind);
}

TEST(Slots, AreTakenLowestFirstAndNeverTwice) {
  for_each_shape([](const ScheduleShape& s) {
    for (const ActionList& actions : make_schedules(s)) {
      const SlotPlan plan = assign_slots(actions, s);
      std::set<int> live;
      for (const Action& a : actions) {
        const int slot = plan.of(a.chunk, a.micro_batch);
        ASSERT_LT(slot, plan.count);
        if (a.verb == Verb::forward) {
          for (int lower = 0; lower < slot; ++lower) EXPECT_TRUE(live.contains(lower)) << text(s);
          EXPECT_TRUE(live.insert(slot).second) << text(s);
        } else if (a.verb != Verb::backward_input) {
          EXPECT_EQ(live.erase(slot), 1U) << text(s);
        } else {
          EXPECT_TRUE(live.contains(slot)) << text(s);
        }
      }
      EXPECT_TRUE(live.empty()) << text(s);
    }
  });
}

}  // namespace
}  // namespace shoal::pipeline
