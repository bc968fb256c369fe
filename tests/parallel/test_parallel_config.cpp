#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/parallel/parallel_config.hpp"

namespace shoal::parallel {
namespace {

TEST(ParallelConfig, EveryProblemIsReported) {
  std::vector<std::string> problems;
  validate({.tp = 0, .cp = 2, .schedule = "1f1b", .chunks = 2, .comm = "smoke"}, problems);
  ASSERT_EQ(problems.size(), 4U);
  EXPECT_NE(problems[0].find("parallel.tp = 0"), std::string::npos);
  EXPECT_NE(problems[1].find("parallel.cp = 2"), std::string::npos);
  EXPECT_NE(problems[2].find("parallel.chunks = 2"), std::string::npos);
  EXPECT_NE(problems[3].find("parallel.comm = smoke: allowed: auto nccl mpi"), std::string::npos);
}

TEST(ParallelConfig, ExpertRanksDivideTheRanksOfAStage) {
  std::vector<std::string> problems;
  validate({.tp = 2, .pp = 2, .ep = 3}, 8, problems);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("parallel.ep = 3: must divide dp x tp = 4"), std::string::npos);
  EXPECT_EQ(make_layout({.tp = 2, .pp = 2, .ep = 2}, 8).expert.describe(), "pp=2 edp=2 ep=2");
}

TEST(ParallelConfig, AllRanksAreDataParallel) {
  const Layout layout = make_layout({}, 6);
  EXPECT_EQ(layout.dense.describe(), "pp=1 dp=6 cp=1 tp=1");
  EXPECT_EQ(layout.expert.size("edp"), 6);
}

TEST(ParallelConfig, RanksThatDoNotFitAreNamed) {
  std::vector<std::string> problems;
  validate({.tp = 4}, 6, problems);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("-np 6 does not fit the layout"), std::string::npos);
  EXPECT_THROW((void)make_layout({.tp = 4}, 6), InputError);
}

}  // namespace
}  // namespace shoal::parallel
