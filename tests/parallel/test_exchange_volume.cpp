#include "shoal/parallel/exchange_volume.hpp"

#include <gtest/gtest.h>

namespace shoal::parallel {
namespace {

TEST(ExchangeVolume, BuffersHoldTheirFactorWithinTheWorstCase) {
  const ExchangeShape s{.tokens = 100, .slots = 4, .experts = 16, .ranks = 8};  // 2 experts a rank
  EXPECT_EQ(expert_rows(s, 0.0), 8 * 100 * 2);
  EXPECT_EQ(expert_rows(s, 1.0), 400);
  EXPECT_EQ(expert_rows(s, 1.001), 401) << "rounded up";
  EXPECT_EQ(expert_rows(s, 1e9), 1600);
  EXPECT_EQ(expert_rows(s, 1e-9), 16) << "a token of every rank";
  EXPECT_EQ(arriving_copies(s, 0.0), 800);
  EXPECT_EQ(arriving_copies(s, 1.0), 400);
  EXPECT_EQ(leaving_copies(s), 400);
  EXPECT_EQ(most_copies(s, 0.0).received, 700);
  EXPECT_EQ(expert_rows({.tokens = 0, .slots = 4, .experts = 16, .ranks = 8}, 1.0), 0);
}

}  // namespace
}  // namespace shoal::parallel
