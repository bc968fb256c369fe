#include "shoal/pipeline/timeline.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "shoal/base/error.hpp"
#include "support/throws.hpp"

namespace shoal::pipeline {
namespace {

/// A stage's work is the same in every schedule: F = B = W = 1 a micro-batch, cut into its chunks.
Timeline equal_costs(ScheduleKind kind, int stages, int micro_batches, int chunks = 1) {
  const double part = 1.0 / chunks;
  return simulate({kind, stages, micro_batches, chunks}, {.chunks = {{part, part, part}}});
}

TEST(Bubble, OfGPipeAndOneForwardOneBackward) {
  for (const ScheduleKind kind : {ScheduleKind::gpipe, ScheduleKind::one_f_one_b}) {
    for (int p = 1; p <= 8; ++p) {
      for (int m = 1; m <= 20; ++m) {
        const Timeline t = equal_costs(kind, p, m);
        EXPECT_NEAR(t.bubble_ratio(), (p - 1.0) / m, 1e-12) << name(kind) << p << " " << m;
        EXPECT_NEAR(t.bubble_share(), (p - 1.0) / (m + p - 1.0), 1e-12);
      }
    }
  }
}

TEST(Bubble, OfInterleavedShrinksWithTheChunks) {
  for (int p = 2; p <= 8; ++p) {
    for (const int v : {2, 3, 4}) {
      for (const int rounds : {1, 2, 3}) {
        const Timeline t = equal_costs(ScheduleKind::interleaved, p, p * rounds, v);
        EXPECT_NEAR(t.bubble_ratio(), (p - 1.0) / (v * p * rounds), 1e-12) << p << " " << v;
      }
    }
  }
}

TEST(Bubble, OfZeroBubbleH1IsOnlyTheWayDown) {
  for (int p = 2; p <= 8; ++p) {
    for (int m = 2 * p; m <= 3 * p; ++m) {
      const Timeline t = equal_costs(ScheduleKind::zb_h1, p, m);
      EXPECT_NEAR(t.bubble_ratio(), (p - 1.0) / (3.0 * m), 1e-12) << p << " " << m;
    }
  }
}

TEST(Bubble, OrdersTheSchedules) {
  for (int p = 2; p <= 8; ++p) {
    for (int m = 2 * p; m <= 4 * p; ++m) {
      const double plain = equal_costs(ScheduleKind::one_f_one_b, p, m).bubble_share();
      const double h1 = equal_costs(ScheduleKind::zb_h1, p, m).bubble_share();
      const double v = equal_costs(ScheduleKind::zbv, p, m, 2).bubble_share();
      EXPECT_LT(h1, plain) << p << " " << m;
      EXPECT_LT(v, h1) << p << " " << m;
    }
  }
}

TEST(Bubble, InsideZbvIsZero) {
  const int p = 4, m = 12;
  const Timeline t = equal_costs(ScheduleKind::zbv, p, m, 2);
  for (int r = 0; r < p; ++r) {
    double first = t.finish, last = 0.0;
    for (const TimelineEvent& e : t.events) {
      if (e.rank != r) continue;
      first = std::min(first, e.start);
      last = std::max(last, e.end);
    }
    EXPECT_NEAR(last - first, t.busy[static_cast<std::size_t>(r)], 1e-12) << r;
  }
}

TEST(Timeline, RespectsEveryDependency) {
  const ScheduleShape shape{ScheduleKind::zbv, 3, 7, 2};
  const double transfer = 0.25;
  const Timeline t = simulate(shape, {.chunks = {{1.0, 1.5, 0.5}}, .transfer = transfer});
  const auto find = [&](int chunk, bool forward, int micro_batch) {
    return *std::find_if(t.events.begin(), t.events.end(), [&](const TimelineEvent& e) {
      const Verb verb = forward ? Verb::forward : Verb::backward_input;
      return e.action.verb == verb && e.action.micro_batch == micro_batch &&
             model_chunk(shape, {e.rank, e.action.chunk}) == chunk;
    });
  };
  for (int i = 0; i < shape.micro_batches; ++i) {
    for (int c = 1; c < shape.model_chunks(); ++c) {
      const TimelineEvent a = find(c - 1, true, i), b = find(c, true, i);
      EXPECT_GE(b.start, a.end + (a.rank == b.rank ? 0.0 : transfer));
      const TimelineEvent g = find(c, false, i), h = find(c - 1, false, i);
      EXPECT_GE(h.start, g.end + (g.rank == h.rank ? 0.0 : transfer));
    }
  }
}

TEST(Timeline, OfUnequalChunksWaitsForTheSlowest) {
  const Timeline t = simulate({ScheduleKind::one_f_one_b, 2, 3, 1},
                              {.chunks = {{1.0, 1.0, 1.0}, {2.0, 2.0, 2.0}}});
  EXPECT_DOUBLE_EQ(t.finish, 1.0 + 3 * 6.0 + 2.0);
  EXPECT_DOUBLE_EQ(t.busy[0], 9.0);
  EXPECT_DOUBLE_EQ(t.busy[1], 18.0);
  EXPECT_EQ(t.peak_slots, (std::vector<int>{2, 1}));
}

TEST(Timeline, FindsADeadlock) {
  const ScheduleShape shape{ScheduleKind::one_f_one_b, 2, 2, 1};
  std::vector<ActionList> schedules = make_schedules(shape);
  // Rank 0 wants the first gradient before it made the second activation; rank 1 the reverse.
  schedules[0] = {
      {Verb::forward, 0, 0}, {Verb::backward, 0, 0}, {Verb::forward, 0, 1}, {Verb::backward, 0, 1}};
  schedules[1] = {
      {Verb::forward, 0, 0}, {Verb::forward, 0, 1}, {Verb::backward, 0, 0}, {Verb::backward, 0, 1}};
  EXPECT_TRUE(test::throws_with<Error>(
      [&] { static_cast<void>(simulate(shape, schedules, {.chunks = {ChunkCost{}}})); },
      "deadlock: pipeline rank 0 waits for ever for the input of backward of chunk 0"));
}

TEST(Channels, AreShallow) {
  EXPECT_EQ(channel_depth({ScheduleKind::one_f_one_b, 1, 8, 1}), 1);
  for (const ScheduleKind kind :
       {ScheduleKind::gpipe, ScheduleKind::one_f_one_b, ScheduleKind::zb_h1}) {
    EXPECT_LE(channel_depth({kind, 8, 32, 1}), 8) << name(kind);
  }
  EXPECT_LE(channel_depth({ScheduleKind::interleaved, 8, 32, 2}), 16);
  EXPECT_LE(channel_depth({ScheduleKind::zbv, 8, 32, 2}), 16);
}

}  // namespace
}  // namespace shoal::pipeline
