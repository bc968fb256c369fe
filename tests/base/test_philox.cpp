#include "shoal/base/philox.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace shoal {
namespace {

// Known answers of the published Philox4x32-10 test vectors (Random123 kat_vectors): all zeros.
TEST(Philox, MatchesPublishedKnownAnswer) {
  const auto b = philox::block(0, static_cast<philox::Purpose>(0), 0, 0);
  EXPECT_EQ(b.x0, 0x6627e8d5U);
  EXPECT_EQ(b.x1, 0xe169c58dU);
  EXPECT_EQ(b.x2, 0xbc57ac4cU);
  EXPECT_EQ(b.x3, 0x9b00dbd8U);
}

TEST(Philox, NormalHasUnitMoments) {
  double sum = 0.0, sum_sq = 0.0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = philox::normal(philox::block(7, philox::Purpose::test, i));
    sum += x;
    sum_sq += x * x;
  }
  EXPECT_NEAR(sum / n, 0.0, 0.01);
  EXPECT_NEAR(sum_sq / n, 1.0, 0.01);
}

}  // namespace
}  // namespace shoal
