#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "job.hpp"
#include "shoal/base/clock.hpp"
#include "shoal/io/h5_file.hpp"
#include "train/toy.hpp"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using test::Job;

class Jobs : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = test::fresh_folder(Communicator::self(), "jobs"); }
  void TearDown() override { fs::remove_all(folder_); }
  /// Until the run has done some steps.
  void wait_for_steps(std::size_t steps) const {
    const Stopwatch clock;
    while (test::metrics_of(folder_ / "run").steps.size() < steps) {
      ASSERT_LT(clock.seconds(), 120.0) << "the job does not get going";
      ::usleep(20000);
    }
  }
  fs::path folder_;
};

TEST_F(Jobs, ASignalToAnyRankStopsWithACheckpointThatContinues) {
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) {
    fs::remove_all(folder_ / "run");
    const Job job{folder_, "run", {"100000000"}};
    wait_for_steps(3);
    ::kill(job.rank_pid(1), signal);
    EXPECT_EQ(job.wait(), 75) << job.output();
    const auto checkpoint = train::find_checkpoint(folder_ / "run");
    const std::int64_t step = train::read_manifest(checkpoint).step;
    EXPECT_EQ(test::metrics_of(folder_ / "run").steps.back().step, step);
    const Job again{folder_, "run", {std::to_string(step + 2)}};
    EXPECT_EQ(again.wait(), 0) << again.output();
    EXPECT_NE(again.output().find("continues from"), std::string::npos);
  }
}

TEST_F(Jobs, AKilledJobContinuesFromItsLastCheckpoint) {
  const Job job{folder_, "run", {"100000000"}};
  wait_for_steps(60);
  ::kill(job.rank_pid(0), SIGKILL);
  EXPECT_NE(job.wait(), 0);
  const std::int64_t step = train::read_manifest(train::find_checkpoint(folder_ / "run")).step;
  EXPECT_GE(step, 50);
  (void)io::H5File::open(folder_ / "run" / "metrics.h5");
  const Job again{folder_, "run", {std::to_string(step + 1)}};
  EXPECT_EQ(again.wait(), 0) << again.output();
  EXPECT_EQ(test::metrics_of(folder_ / "run").steps.size(), static_cast<std::size_t>(step + 1));
}

TEST_F(Jobs, ARankThatThrowsStopsTheOthersWithinSeconds) {
  const Stopwatch clock;
  const Job job{folder_, "run", {"100000000", "fail"}};
  EXPECT_NE(job.wait(), 0);
  EXPECT_LT(clock.seconds(), 60.0);
  EXPECT_NE(job.output().find("rank 1: a test made this rank fail"), std::string::npos)
      << job.output();
}

}  // namespace
}  // namespace shoal
