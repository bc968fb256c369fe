#include "shoal/data/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "shoal/base/error.hpp"
#include "shoal/data/permutation.hpp"
#include "support/throws.hpp"

namespace shoal::data {
namespace {

using test::throws_with;

[[nodiscard]] SourceSpec source(const std::string& name, std::int64_t tokens, double weight = 1.0) {
  return {.name = name, .fingerprint = "f" + name, .num_tokens = tokens, .weight = weight};
}

class PermutationSizes : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(PermutationSizes, VisitsEachNumberOnce) {
  const KeyedPermutation order{77, GetParam()};
  std::vector<int> visits(static_cast<std::size_t>(GetParam()));
  for (std::int64_t i = 0; i < GetParam(); ++i) ++visits[static_cast<std::size_t>(order(i))];
  EXPECT_EQ(visits, std::vector<int>(visits.size(), 1));
}
INSTANTIATE_TEST_SUITE_P(Sizes, PermutationSizes,
                         ::testing::Values(1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1009, 65537));

TEST(KeyedPermutation, KeysGiveDifferentOrdersAndNoDrift) {
  const std::int64_t n = 10000;
  const KeyedPermutation a{1, n}, b{2, n};
  std::int64_t same = 0, ahead = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    same += a(i) == b(i) ? 1 : 0;
    ahead += a(i) > i ? 1 : 0;
  }
  EXPECT_LT(same, 10);                                      // 1 expected
  EXPECT_NEAR(static_cast<double>(ahead), n / 2.0, 300.0);  // 6 standard deviations
}

/// How often each input position of each source was drawn.
using Visits = std::map<std::int64_t, std::vector<int>>;
void count(Visits& visits, const std::vector<Sample>& samples, std::int64_t tokens) {
  for (const Sample& sample : samples) {
    for (const Piece& p : sample) {
      auto& seen = visits[p.source];
      seen.resize(static_cast<std::size_t>(tokens));
      for (std::int64_t t = p.start; t < p.start + p.count; ++t)
        ++seen[static_cast<std::size_t>(t)];
    }
  }
}

/// Every token was seen once, but for less than a window at each end, which was not seen.
void expect_one_run_of_ones(const std::vector<int>& seen, std::int64_t window) {
  const auto drawn = std::find(seen.begin(), seen.end(), 1);
  const auto after = std::find_if(drawn, seen.end(), [](int n) { return n != 1; });
  EXPECT_LT(drawn - seen.begin(), window);
  EXPECT_LT(seen.end() - after, window);
  EXPECT_EQ(std::count(after, seen.end(), 0), seen.end() - after);
}

/// All samples up to the end of the epoch of source 0.
std::vector<Sample> rest_of_epoch(Sampler& sampler) {
  std::vector<Sample> samples;
  const std::int64_t epoch = sampler.ledger().sources[0].epoch;
  while (sampler.ledger().sources[0].epoch == epoch) samples.push_back(sampler.next(1)[0]);
  return samples;
}

TEST(Sampler, AnEpochDrawsEveryTokenOnceButForLessThanAWindowAtEachEnd) {
  const std::int64_t windows = 509, sequence = 16, tokens = windows * sequence + 1;
  Sampler sampler{{.seed = 3, .sequence = sequence}, {source("a", tokens)}};
  for (int epoch = 0; epoch < 5; ++epoch) {
    Visits visits;
    count(visits, rest_of_epoch(sampler), tokens - 1);
    expect_one_run_of_ones(visits[0], sequence);
  }
}

// A small source would otherwise be cut at the same places in every epoch.
TEST(Sampler, TheFirstWindowOfAnEpochBeginsAnywhereInAWindow) {
  const std::int64_t sequence = 16;
  Sampler sampler{{.seed = 3, .sequence = sequence}, {source("a", 20 * sequence + 1)}};
  std::vector<int> places(static_cast<std::size_t>(sequence));
  for (int epoch = 0; epoch < 300; ++epoch) {
    const Sample sample = rest_of_epoch(sampler)[0];
    ++places[static_cast<std::size_t>(sample[0].start % sequence)];
  }
  EXPECT_GT(*std::min_element(places.begin(), places.end()), 0);
}

// One window and its targets, no more: it begins at the first token, and there is no other.
TEST(Sampler, ASourceOfOneWindowIsDrawnWhole) {
  Sampler sampler{{.seed = 3, .sequence = 16}, {source("a", 17)}};
  for (const Sample& sample : sampler.next(20)) EXPECT_EQ(sample, (Sample{{0, 0, 16}}));
}

TEST(Sampler, EpochsDifferAndSeedsDiffer) {
  const std::vector<SourceSpec> sources{source("a", 100 * 8 + 1)};
  Sampler one{{.seed = 1, .sequence = 8}, sources}, two{{.seed = 2, .sequence = 8}, sources};
  const auto first = one.next(100), second = one.next(100);
  EXPECT_NE(first, second);
  EXPECT_NE(first, two.next(100));
  Sampler again{{.seed = 1, .sequence = 8}, sources};
  EXPECT_EQ(again.next(100), first);
}

// Less than a window is left over; over some epochs every token gets its turn.
TEST(Sampler, LeftOverTokensChangeFromEpochToEpoch) {
  const std::int64_t tokens = 5 * 10 + 1 + 7;
  Sampler sampler{{.seed = 4, .sequence = 10}, {source("a", tokens)}};
  Visits visits;
  count(visits, sampler.next(5 * 60), tokens - 1);
  EXPECT_GT(*std::min_element(visits[0].begin(), visits[0].end()), 0);
}

TEST(Sampler, DrawingInOtherPortionsChangesNothing) {
  const std::vector<SourceSpec> sources{source("a", 4001, 2.0), source("b", 3001, 1.0)};
  Sampler whole{{.seed = 5, .sequence = 20}, sources}, parts{{.seed = 5, .sequence = 20}, sources};
  const auto all = whole.next(600);
  std::vector<Sample> joined;
  for (const std::int64_t n : {1, 7, 32, 60, 500}) {
    for (auto& sample : parts.next(n)) joined.push_back(sample);
  }
  EXPECT_EQ(joined, all);
  EXPECT_EQ(parts.ledger(), whole.ledger());
}

TEST(Sampler, BlendsByWeight) {
  Sampler sampler{{.seed = 6, .sequence = 10}, {source("a", 1001, 3.0), source("b", 501, 1.0)}};
  std::int64_t from_b = 0;
  for (const Sample& s : sampler.next(8000)) from_b += s[0].source;
  EXPECT_NEAR(static_cast<double>(from_b), 2000.0, 6 * 39.0);  // 6 standard deviations
}

// Stop and resume through JSON, with other sequence lengths and weights: each token between the
// ends of the epoch is drawn exactly once whatever happens on the way.
TEST(Ledger, ThreeChangesOfLayoutCountNoTokenTwice) {
  const std::int64_t tokens = 4096 * 6 + 1;
  std::vector<SourceSpec> sources{source("a", tokens), source("b", 5000, 0.5)};
  Visits visits;
  Ledger ledger{.seed = 7};
  for (const auto& [sequence, batches, weight] :
       {std::tuple{64, 20, 0.5}, {128, 30, 0.1}, {32, 40, 2.0}, {64, 0, 0.0}}) {
    sources[1].weight = weight;
    Sampler sampler{{.seed = 7, .sequence = sequence}, sources, ledger};
    for (int i = 0; i < batches; ++i) count(visits, sampler.next(4), tokens - 1);
    while (batches == 0 && sampler.ledger().sources[0].epoch == 0) {
      count(visits, sampler.next(1), tokens - 1);
    }
    ledger = ledger_from_json(io::parse_json(to_json(sampler.ledger()).dump(), "ledger"), "ledger");
    EXPECT_EQ(ledger, sampler.ledger());
  }
  expect_one_run_of_ones(visits[0], 64);
  EXPECT_EQ(ledger.sources[0].consumed, std::count(visits[0].begin(), visits[0].end(), 1));
  EXPECT_EQ(ledger.weight_log.size(), 4U);
  const auto drawn_b = std::accumulate(visits[1].begin(), visits[1].end(), std::int64_t{0});
  EXPECT_EQ(ledger.sources[1].consumed, drawn_b);
}

TEST(Ledger, ANewSourceLeavesTheOrderOfOthers) {
  const SourceSpec a = source("a", 1601), b = source("b", 801);
  Sampler alone{{.seed = 8, .sequence = 16}, {a}};
  Sampler first{{.seed = 8, .sequence = 16}, {a}};
  (void)alone.next(10);
  (void)first.next(10);
  Sampler blended{{.seed = 8, .sequence = 16}, {b, a}, first.ledger()};
  EXPECT_EQ(blended.source_indices(), (std::vector<std::int64_t>{1, 0}));
  std::vector<Sample> from_a;
  for (const Sample& s : blended.next(60)) {
    if (s[0].source == 0) from_a.push_back(s);
  }
  EXPECT_EQ(from_a, alone.next(std::ssize(from_a)));
  // Named no longer: kept, so that it can come back without a repetition.
  Sampler without{{.seed = 8, .sequence = 16}, {b}, blended.ledger()};
  EXPECT_EQ(without.ledger().sources[0], blended.ledger().sources[0]);
}

TEST(Ledger, RefusesChangedDataAndSeed) {
  Sampler sampler{{.seed = 9, .sequence = 8}, {source("a", 100)}};
  EXPECT_TRUE(throws_with<InputError>(
      [&] { Sampler({.seed = 9, .sequence = 8}, {source("a", 101)}, sampler.ledger()); },
      "source a is not the dataset"));
  EXPECT_TRUE(throws_with<InputError>(
      [&] { Sampler({.seed = 10, .sequence = 8}, {source("a", 100)}, sampler.ledger()); }, "seed"));
  io::Json json = to_json(sampler.ledger());
  json["sources"][0]["offset"] = 1 << 20;
  EXPECT_TRUE(throws_with<InputError>([&] { (void)ledger_from_json(json, "x"); }, "impossible"));
}

TEST(Sampler, RefusesSourcesThatCannotServe) {
  const auto make = [](std::vector<SourceSpec> sources) {
    return [sources] { Sampler({.seed = 1, .sequence = 8}, sources); };
  };
  EXPECT_TRUE(throws_with<InputError>(make({source("a", 8)}), "one sample needs 9"));
  EXPECT_TRUE(throws_with<InputError>(make({source("a", 99, 0.0)}), "weights"));
  EXPECT_TRUE(throws_with<InputError>(make({source("a", 99, -1.0)}), "weight"));
  EXPECT_TRUE(throws_with<InputError>(make({source("a", 99), source("a", 99)}), "twice"));
  EXPECT_TRUE(throws_with<InputError>(make({}), "no training data"));
}

}  // namespace
}  // namespace shoal::data
