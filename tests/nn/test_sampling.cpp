#include "shoal/nn/sampling.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "shoal/base/error.hpp"

namespace shoal::nn {
namespace {

constexpr std::array kLogits = {0.0F, 2.0F, 1.0F, 2.0F, -1.0F};

/// How often each token is drawn.
std::array<int, 5> draw(const SamplingConfig& config, int draws) {
  std::array<int, 5> count{};
  for (int i = 0; i < draws; ++i) {
    ++count[static_cast<std::size_t>(sample(kLogits, config, static_cast<std::uint64_t>(i)))];
  }
  return count;
}

TEST(Sampling, WithoutTemperatureTakesTheLowestOfTheBest) {
  EXPECT_EQ(sample(kLogits, {.temperature = 0.0}, 0), 1);
}

TEST(Sampling, DrawsFromTheSoftmax) {
  constexpr int kDraws = 20000;
  for (const double temperature : {0.7, 1.0, 2.0}) {
    const std::array<int, 5> count = draw({.temperature = temperature, .seed = 4}, kDraws);
    double total = 0.0;
    for (const float l : kLogits) total += std::exp(l / temperature);
    for (std::size_t i = 0; i < 5; ++i) {
      const double p = std::exp(kLogits[i] / temperature) / total;
      const double sigma = std::sqrt(p * (1 - p) / kDraws);
      EXPECT_NEAR(count[i] / double{kDraws}, p, 4.5 * sigma) << temperature << " " << i;
    }
  }
}

TEST(Sampling, TopKKeepsTheMostLikely) {
  const std::array<int, 5> count = draw({.top_k = 3}, 3000);
  EXPECT_EQ(count[0] + count[4], 0);
  EXPECT_GT(count[2], 0);
}

TEST(Sampling, TopPKeepsTheSmallestSetThatReachesIt) {
  // Probabilities: 0.39, 0.39, 0.14, 0.05, 0.02.
  const std::array<int, 5> two = draw({.top_p = 0.7}, 3000);
  EXPECT_GT(two[1] * two[3], 0);
  EXPECT_EQ(two[0] + two[2] + two[4], 0);
  const std::array<int, 5> one = draw({.top_p = 0.1}, 300);
  EXPECT_EQ(one[1], 300);
}

TEST(Sampling, IsAPureFunctionOfSeedAndIndex) {
  int differs = 0;
  for (std::uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(sample(kLogits, {.seed = 1}, i), sample(kLogits, {.seed = 1}, i));
    differs += sample(kLogits, {.seed = 1}, i) != sample(kLogits, {.seed = 2}, i) ? 1 : 0;
  }
  EXPECT_GT(differs, 5);
}

TEST(Sampling, RefusesBadInput) {
  std::vector<std::string> problems;
  validate(SamplingConfig{.temperature = -1.0, .top_k = -2, .top_p = 0.0}, problems);
  EXPECT_EQ(problems.size(), 3U);
  const std::array broken = {1.0F, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THROW((void)sample(broken, {}, 0), Error);
}

}  // namespace
}  // namespace shoal::nn
