#include <gtest/gtest.h>

#include <csignal>

#include "job.hpp"
#include "shoal/base/clock.hpp"
#include "train/toy.hpp"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using test::Job;

constexpr double kTimeoutSeconds = 2.0;
/// What the job may take beyond the time-out to print, to abort and to be gone.
constexpr double kGraceSeconds = 5.0;

/// Whether the process runs or is stopped; one that ended may still wait for its parent's notice.
bool is_alive(pid_t pid) {
  std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
  std::string text;
  std::getline(file, text);
  const std::size_t state = text.rfind(") ");
  return state != std::string::npos && text.at(state + 2) != 'Z';
}

constexpr double kTakeDownSeconds = 1.0;

/// mpirun kills a stopped rank on its way out and does not wait until the system has taken it down,
/// which takes a while where the memory is large, as under AddressSanitizer.
bool ends_within(double seconds, pid_t pid) {
  const Stopwatch start;
  while (is_alive(pid) && start.seconds() < seconds) ::usleep(1000);
  return !is_alive(pid);
}

/// A rank of a running job is lost; argument: its number.
class LostRank : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { folder_ = test::fresh_folder(Communicator::self(), "lost"); }
  void TearDown() override { fs::remove_all(folder_); }

  /// The job's output after `signal` to one of four ranks in the middle of the run.
  [[nodiscard]] std::string output_after(int signal) {
    const Job job{folder_, "run", {"100000000", std::to_string(kTimeoutSeconds)}, 4};
    const Stopwatch start;
    while (start.seconds() < 120.0 && !is_running()) ::usleep(20000);
    victim_ = job.rank_pid(GetParam());
    const Stopwatch since;
    ::kill(victim_, signal);
    EXPECT_NE(job.wait(), 0);
    EXPECT_LT(since.seconds(), kTimeoutSeconds + kGraceSeconds);
    return job.output();
  }
  [[nodiscard]] bool is_running() const {
    try {
      return test::metrics_of(folder_ / "run").steps.size() >= 3;
    } catch (const Error&) {  // not written yet
      return false;
    }
  }
  [[nodiscard]] std::string rank_name() const { return std::to_string(GetParam()); }

  fs::path folder_;
  pid_t victim_ = 0;
};

TEST_P(LostRank, AStoppedRankIsNamedAndTheJobEnds) {
  const std::string text = output_after(SIGSTOP);
  const std::string who = "rank " + rank_name() + " (pid " + std::to_string(victim_) + ")";
  EXPECT_NE(text.find(who + " is behind: it last finished call "), std::string::npos) << text;
  EXPECT_NE(text.find("Rank " + rank_name() + " is stopped by a signal"), std::string::npos)
      << text;
  EXPECT_NE(text.find("last operations of this rank"), std::string::npos) << text;
  EXPECT_TRUE(ends_within(kTakeDownSeconds, victim_)) << "the stopped process is still there";
}

TEST_P(LostRank, AKilledRankIsNamedAndTheJobEnds) {
  const std::string text = output_after(SIGKILL);
  EXPECT_NE(text.find("process rank " + rank_name()), std::string::npos) << text;
  EXPECT_NE(text.find("signal 9"), std::string::npos) << text;
}

INSTANTIATE_TEST_SUITE_P(Ranks, LostRank, ::testing::Values(0, 2));

}  // namespace
}  // namespace shoal
