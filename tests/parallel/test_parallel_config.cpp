#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/parallel/parallel_config.hpp"

namespace shoal::parallel {
namespace {

TEST(ParallelConfig, OneIsTheOnlySizeOfAxesThatThisVersionLacks) {
  std::vector<std::string> problems;
  validate({.tp = 2, .ep = 4}, problems);
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_NE(problems[0].find("parallel.tp = 2"), std::string::npos);
  EXPECT_NE(problems[1].find("parallel.ep = 4"), std::string::npos);
}

TEST(ParallelConfig, AllRanksAreDataParallel) {
  const Layout layout = make_layout({}, 6);
  EXPECT_EQ(layout.dense.describe(), "pp=1 dp=6 cp=1 tp=1");
  EXPECT_EQ(layout.expert.size("edp"), 6);
}

TEST(ParallelConfig, RanksThatDoNotFitAreNamed) {
  std::vector<std::string> problems;
  validate({.tp = 4}, 6, problems);
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_NE(problems[1].find("-np 6 does not fit the layout"), std::string::npos);
  EXPECT_THROW((void)make_layout({.tp = 4}, 6), InputError);
}

}  // namespace
}  // namespace shoal::parallel
