#include "shoal/parallel/shard_plan.hpp"

#include <gtest/gtest.h>

#include <map>

#include "parallel/sharded_layout.hpp"

namespace shoal::parallel {
namespace {

struct Case {
  ParallelConfig config;
  int ranks;
};
const std::vector<Case> kCases = {{{}, 1},
                                  {{}, 4},
                                  {{.tp = 2}, 2},
                                  {{.tp = 2, .ep = 2}, 4},
                                  {{.ep = 4}, 4},
                                  {{.tp = 2, .pp = 2, .ep = 4}, 8},
                                  {{.pp = 2, .ep = 2}, 8}};

/// How often each global element of each parameter is counted and held over all ranks.
struct Tally {
  std::map<std::string, std::map<std::int64_t, int>> counted, held;

  Tally(const Case& c, bool zero) {
    const Layout ranks = make_layout(c.config, c.ranks);
    for (int rank = 0; rank < c.ranks; ++rank) {
      const nn::ParameterLayout layout = test::sharded_layout(ranks, rank);
      const ShardPlan plan{layout, ranks, rank, zero};
      for (const RowShard& s : plan.shards()) {
        const nn::ParameterSpec& spec =
            layout.parameters()[static_cast<std::size_t>(s.parameter)].spec;
        test::for_each_global(spec, s.first_element(), s.held_elements(), [&](std::int64_t at) {
          ++held[spec.name][at];
          counted[spec.name][at] += s.counted ? 1 : 0;
        });
      }
    }
  }
};

TEST(ShardPlan, EveryElementIsCountedExactlyOnce) {
  const nn::ParameterLayout global = test::sharded_layout(make_layout({}, 1), 0);
  for (const Case& c : kCases) {
    for (const bool zero : {false, true}) {
      const Tally tally{c, zero};
      for (const nn::Parameter& p : global.parameters()) {
        const auto& counted = tally.counted.at(p.spec.name);
        ASSERT_EQ(static_cast<std::int64_t>(counted.size()), p.spec.shape.elements());
        for (const auto& [at, times] : counted) EXPECT_EQ(times, 1) << p.spec.name << " " << at;
      }
    }
  }
}

TEST(ShardPlan, DealsEachRowToOneRankOfAStageAndWithoutZeroToAll) {
  for (const Case& c : kCases) {
    const Layout ranks = make_layout(c.config, c.ranks);
    const Tally sharded{c, true}, copied{c, false};
    for (const auto& [name, elements] : sharded.held) {
      const int ends = name == "table" && c.config.pp > 1 ? 2 : 1;
      for (const auto& [at, times] : elements) EXPECT_EQ(times, ends) << name;
    }
    EXPECT_EQ(copied.held.at("norm").at(0), c.ranks / c.config.pp);
    EXPECT_EQ(copied.held.at("dealt").at(0), ranks.dense.size("dp"));
    EXPECT_EQ(copied.held.at("gate").at(0), ranks.expert.size("edp"));
  }
}

TEST(ShardPlan, BlocksAreNearEqualAndFitThePaddedOne) {
  for (const std::int64_t rows : {0, 1, 3, 4, 7, 64}) {
    std::int64_t next = 0;
    for (int i = 0; i < 4; ++i) {
      const RowRange block = row_block(rows, 4, i);
      EXPECT_EQ(block.first, next);
      EXPECT_GE(block.count, rows / 4);
      EXPECT_LE(block.count, (rows + 3) / 4);
      next += block.count;
    }
    EXPECT_EQ(next, rows);
  }
}

TEST(ShardPlan, AlonePlansEverything) {
  const nn::ParameterLayout layout = test::sharded_layout(make_layout({}, 1), 0);
  const ShardPlan plan = ShardPlan::alone(layout);
  for (const RowShard& s : plan.shards()) {
    EXPECT_EQ(s.held, (RowRange{0, s.rows}));
    EXPECT_TRUE(s.counted);
  }
}

}  // namespace
}  // namespace shoal::parallel
