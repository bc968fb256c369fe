#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <ctime>

#include "shoal/train/stop_condition.hpp"

namespace shoal::train {
namespace {

TEST(StopCondition, ASignalOnOneRankStopsAll) {
  const Communicator world = Communicator::world();
  const StopCondition stop{{}};
  EXPECT_EQ(stop.agree(world, 0.0), StopReason::none);
  if (world.rank() == world.size() - 1) std::raise(SIGUSR1);
  EXPECT_EQ(stop.agree(world, 0.0), StopReason::user_signal);
  if (world.rank() == 0) std::raise(SIGTERM);
  EXPECT_EQ(stop.agree(world, 0.0), StopReason::terminate);
}

TEST(StopCondition, TimeIsUpBeforeAStepThatWouldNotFit) {
  const Communicator world = Communicator::world();
  const StopCondition stop{{.max_hours = 1.0}};
  EXPECT_EQ(stop.agree(world, 60.0), StopReason::none);
  EXPECT_EQ(stop.agree(world, 3601.0), StopReason::time_limit);
}

TEST(StopCondition, SlurmsEndTimeIsKept) {
  const Communicator world = Communicator::world();
  const std::string end = std::to_string(std::time(nullptr) + 1000);
  ::setenv("SLURM_JOB_END_TIME", end.c_str(), 1);
  const StopCondition stop{{.margin_s = 100.0}};
  ::unsetenv("SLURM_JOB_END_TIME");
  EXPECT_EQ(stop.agree(world, 10.0), StopReason::none);
  EXPECT_EQ(stop.agree(world, 950.0), StopReason::job_end);
}

}  // namespace
}  // namespace shoal::train
