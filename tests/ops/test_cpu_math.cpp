#include "ops/cpu_math.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace shoal::ops::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(FastExp, IsWithinTwoUnitsInTheLastPlace) {
  double worst = 0.0;
  for (float x = -87.3F; x < 88.7F; x += 0.00071F) {
    const double want = std::exp(double{x});
    worst = std::max(worst, std::abs(fast_exp(x) - want) / want);
  }
  EXPECT_LT(worst, 1.2e-7);
  EXPECT_EQ(fast_exp(0.0F), 1.0F);
}

TEST(FastExp, HandlesTheEnds) {
  EXPECT_EQ(fast_exp(-kInf), 0.0F);
  EXPECT_EQ(fast_exp(kInf), kInf);
  EXPECT_EQ(fast_exp(89.0F), kInf);
  EXPECT_TRUE(std::isfinite(fast_exp(88.72F)));
  EXPECT_TRUE(std::isnan(fast_exp(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_NEAR(fast_exp(-100.0F), std::exp(-100.0), 1.5e-45);  // subnormal
}

TEST(Sigmoid, IsRightFarFromZero) {
  EXPECT_EQ(sigmoid(-kInf), 0.0F);
  EXPECT_EQ(sigmoid(kInf), 1.0F);
  EXPECT_NEAR(sigmoid(-20.0F) / (1.0 / (1.0 + std::exp(20.0))), 1.0, 2e-7);
}

}  // namespace
}  // namespace shoal::ops::cpu
