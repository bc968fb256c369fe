#include "shoal/pipeline/stage_split.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"
#include "support/throws.hpp"

namespace shoal::pipeline {
namespace {

using Counts = std::vector<std::int64_t>;

ScheduleShape one_chunk(int stages) {
  return {.stages = stages};
}

/// What the dearest rank pays for all its chunks.
double dearest(const LayerCosts& costs, const ScheduleShape& shape, const Counts& counts) {
  std::vector<double> ranks(static_cast<std::size_t>(shape.stages));
  std::size_t layer = 0;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    double& cost = ranks[static_cast<std::size_t>(place_of(shape, static_cast<int>(c)).rank)];
    cost += (c == 0 ? costs.embedding : 0.0) + (c + 1 == counts.size() ? costs.head : 0.0);
    for (std::int64_t i = 0; i < counts[c]; ++i) cost += costs.layers[layer++];
  }
  return *std::max_element(ranks.begin(), ranks.end());
}

/// Every way to cut `layers` into `chunks` parts of at least one.
void for_each_split(std::int64_t layers, int chunks, const Counts& front,
                    const std::function<void(const Counts&)>& body) {
  if (chunks == 1) {
    Counts all = front;
    all.push_back(layers);
    return body(all);
  }
  for (std::int64_t n = 1; n <= layers - (chunks - 1); ++n) {
    Counts more = front;
    more.push_back(n);
    for_each_split(layers - n, chunks - 1, more, body);
  }
}

double best_of_all(const LayerCosts& costs, const ScheduleShape& shape) {
  double best = 1e300;
  for_each_split(std::ssize(costs.layers), shape.model_chunks(), {},
                 [&](const Counts& c) { best = std::min(best, dearest(costs, shape, c)); });
  return best;
}

TEST(StageSplit, IsTheBestOfAllSplits) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto draw = [&](std::uint64_t i) {
      return static_cast<double>(1 + philox::block(seed, philox::Purpose::test, i).x0 % 9);
    };
    LayerCosts costs{.embedding = draw(100) / 4.0, .head = draw(101)};
    const int layers = static_cast<int>(3 + seed % 7), chunks = static_cast<int>(1 + seed % 3);
    for (int i = 0; i < layers; ++i) costs.layers.push_back(draw(static_cast<std::uint64_t>(i)));
    const ScheduleShape shape = one_chunk(chunks);
    const Counts got = split_layers(costs, shape);
    EXPECT_EQ(std::accumulate(got.begin(), got.end(), std::int64_t{0}), layers);
    EXPECT_DOUBLE_EQ(dearest(costs, shape, got), best_of_all(costs, shape)) << seed;
  }
}

TEST(StageSplit, OfEqualLayersIsEvenAndAHeadTakesSomeAway) {
  EXPECT_EQ(split_layers({.layers = std::vector<double>(8, 1.0)}, one_chunk(4)),
            (Counts{2, 2, 2, 2}));
  EXPECT_EQ(split_layers({.layers = std::vector<double>(10, 1.0), .head = 2.0}, one_chunk(4)),
            (Counts{3, 3, 3, 1}));
  const Counts ten = split_layers({.layers = std::vector<double>(10, 1.0)}, one_chunk(4));
  EXPECT_EQ(std::count(ten.begin(), ten.end(), 3), 2) << "3,3,2,2 in some order, not 3,3,3,1";
}

TEST(StageSplit, OfSeveralChunksBalancesRanks) {
  const ScheduleShape v{ScheduleKind::zbv, 2, 4, 2};
  // The first rank holds the embedding and the head, which cost as much as four layers: it gets two
  // layers, the fewest there can be, and the other one the rest.
  const LayerCosts ends{.layers = std::vector<double>(8, 1.0), .embedding = 1.0, .head = 3.0};
  EXPECT_EQ(split_layers(ends, v), (Counts{1, 3, 3, 1}));
  EXPECT_EQ(split_layers({.layers = std::vector<double>(8, 1.0)}, v), (Counts{2, 2, 2, 2}));
  const ScheduleShape shapes[] = {v,
                                  {ScheduleKind::zbv, 3, 4, 2},
                                  {ScheduleKind::interleaved, 2, 4, 2},
                                  {ScheduleKind::interleaved, 2, 4, 3}};
  for (const ScheduleShape& shape : shapes) {
    for (std::int64_t layers = shape.model_chunks(); layers < 12; ++layers) {
      for (const double head : {0.0, 0.7, 2.0, 3.5}) {
        const LayerCosts costs{.layers = std::vector<double>(static_cast<std::size_t>(layers), 1.0),
                               .head = head};
        EXPECT_DOUBLE_EQ(dearest(costs, shape, split_layers(costs, shape)),
                         best_of_all(costs, shape))
            << name(shape.kind) << " " << shape.stages << " " << layers << " " << head;
      }
    }
  }
}

TEST(StageSplit, CostsAddUpToTheModels) {
  for (const int experts : {1, 8}) {
    for (const bool tied : {false, true}) {
      nn::ModelConfig c;
      c.vocab_size = 1000;
      c.num_hidden_layers = 5;
      c.num_experts = experts;
      c.first_k_dense_replace = 2;
      c.n_shared_experts = 1;
      c.tie_word_embeddings = tied;
      const LayerCosts costs = layer_costs(c, 512);
      const double sum =
          std::accumulate(costs.layers.begin(), costs.layers.end(), costs.head + costs.embedding);
      EXPECT_NEAR(sum, nn::model_size(c, 512).forward_flops_per_token, 1e-9 * sum) << experts;
    }
  }
}

TEST(StageSplit, ReadsTheKey) {
  EXPECT_EQ(parse_stages("3,2,3", 8, 3), (Counts{3, 2, 3}));
  const auto refuses = [](const char* text, std::int64_t layers, int chunks, const char* why) {
    return test::throws_with<InputError>(
        [&] { static_cast<void>(parse_stages(text, layers, chunks)); }, why);
  };
  EXPECT_TRUE(refuses("3,2,3", 9, 3, "parallel.stages = 3,2,3: adds up to 8"));
  EXPECT_TRUE(refuses("3,2,3", 8, 4, "3 numbers, but parallel.pp x parallel.chunks = 4"));
  EXPECT_TRUE(refuses("3,,5", 8, 3, "numbers >= 1"));
  EXPECT_TRUE(refuses("8,0", 8, 2, "numbers >= 1"));
  EXPECT_TRUE(refuses("4,4,", 8, 2, "numbers >= 1"));
  EXPECT_TRUE(refuses("4,4x", 8, 2, "numbers >= 1"));
  EXPECT_TRUE(refuses("1,1,1", 2, 3, "more than the 2 layers"));
  EXPECT_TRUE(test::throws_with<InputError>(
      [] { static_cast<void>(split_layers({.layers = {1.0}}, one_chunk(2))); },
      "more than the 1 layers"));
}

TEST(StageSplit, RangesFollowThePlacement) {
  const ScheduleShape v{ScheduleKind::zbv, 2, 4, 2};
  const std::vector<nn::StageRange> ranges = rank_ranges({1, 2, 3, 4}, v, 0);
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_TRUE(ranges[0].embedding);
  EXPECT_FALSE(ranges[0].head);
  EXPECT_EQ(ranges[1].first_layer, 6);
  EXPECT_EQ(ranges[1].last_layer, 10);
  EXPECT_TRUE(ranges[1].head) << "the last chunk of a V is on the first rank";
  const std::vector<nn::StageRange> middle = rank_ranges({1, 2, 3, 4}, v, 1);
  EXPECT_EQ(middle[0].first_layer, 1);
  EXPECT_EQ(middle[1].first_layer, 3);
  EXPECT_FALSE(middle[1].head);
}

}  // namespace
}  // namespace shoal::pipeline
