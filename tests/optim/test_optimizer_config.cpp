#include <gtest/gtest.h>

#include <algorithm>

#include "shoal/optim/optimizer_config.hpp"

namespace shoal::optim {
namespace {

TEST(LearningRate, WarmsUpLinearlyToThePeak) {
  const OptimizerConfig c{.lr = 1.0, .schedule = "constant", .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(learning_rate(c, 0, 100), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(c, 3, 100), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(c, 4, 100), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(c, 99, 100), 1.0);
}

TEST(LearningRate, CosineIsHalfWayInTheMiddleAndEndsAtTheFloor) {
  const OptimizerConfig c{.lr = 2.0, .schedule = "cosine", .warmup_steps = 10, .min_lr_ratio = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(c, 10, 110), 2.0);
  EXPECT_NEAR(learning_rate(c, 60, 110), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_NEAR(learning_rate(c, 110, 110), 0.2, 1e-12);
  for (int s = 10; s < 109; ++s) {
    EXPECT_GT(learning_rate(c, s, 110), learning_rate(c, s + 1, 110));
  }
}

TEST(LearningRate, WsdIsFlatUntilItsLastShare) {
  const OptimizerConfig c{
      .lr = 1.0, .schedule = "wsd", .warmup_steps = 5, .min_lr_ratio = 0.0, .decay_share = 0.2};
  EXPECT_DOUBLE_EQ(learning_rate(c, 79, 100), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(c, 80, 100), 1.0);
  EXPECT_NEAR(learning_rate(c, 90, 100), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(c, 99, 100), 0.05, 1e-12);
}

TEST(LearningRate, AWarmUpLongerThanTheRunStaysFinite) {
  const OptimizerConfig c{.lr = 1.0, .schedule = "cosine", .warmup_steps = 50};
  for (int s = 0; s < 20; ++s) EXPECT_NEAR(learning_rate(c, s, 20), (s + 1) / 50.0, 1e-12);
}

TEST(Momentum, RisesOverTheWarmUpForAmfOnly) {
  OptimizerConfig c{.mu_start = 0.9, .mu_end = 0.99, .warmup_steps = 10};
  EXPECT_DOUBLE_EQ(momentum(c, 0), 0.9);
  EXPECT_NEAR(momentum(c, 5), 0.945, 1e-12);
  EXPECT_DOUBLE_EQ(momentum(c, 10), 0.99);
  c.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(momentum(c, 0), 0.99);
  c.kind = "sgd";
  EXPECT_DOUBLE_EQ(momentum(c, 100), 0.9);
}

TEST(OptimizerConfig, AllProblemsAreReportedWithTheirKeys) {
  std::vector<std::string> problems;
  validate({.kind = "adam", .lr = -1.0, .beta2 = 1.0, .schedule = "linear", .state_dtype = "fp8"},
           problems);
  ASSERT_EQ(problems.size(), 5U);
  EXPECT_NE(problems[0].find("optim.kind = adam: allowed: amf"), std::string::npos);
  for (const char* key : {"optim.lr", "optim.beta2", "optim.schedule", "optim.state_dtype"}) {
    EXPECT_TRUE(std::any_of(problems.begin(), problems.end(), [key](const std::string& p) {
      return p.find(key) == 0;
    })) << key;
  }
  problems.clear();
  validate({}, problems);
  EXPECT_TRUE(problems.empty());
}

}  // namespace
}  // namespace shoal::optim
