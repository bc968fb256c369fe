#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "shoal/base/philox.hpp"
#include "shoal/io/h5_file.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;
constexpr RouterShape kRouter{.layers = 2, .experts = 3};

RouterRow router_row(std::int64_t step) {
  return {.step = step,
          .counts = {1, 2, 3, 4, 5, static_cast<float>(step)},
          .bias = std::vector<float>(6, 0.5F),
          .entropy = {1.0F, 2.0F},
          .drop_rate = {0.0F, 0.25F}};
}
StepRow step_row(std::int64_t step) {
  StepRow row{.step = step};
  row[Column::loss] = 1.0 / static_cast<double>(step);
  return row;
}

class Metrics : public ::testing::Test {
 protected:
  void SetUp() override {
    if (Communicator::world().size() > 1) GTEST_SKIP() << "one writer: tested on one rank";
    folder_ = test::fresh_folder(Communicator::self(), "metrics");
  }
  void TearDown() override { fs::remove_all(folder_); }
  [[nodiscard]] MetricsWriter writer(std::int64_t keep, double rebuild_seconds = 1e9) const {
    return {{.run_dir = folder_, .router = kRouter, .rebuild_seconds = rebuild_seconds}, keep};
  }
  void write(std::int64_t first, std::int64_t last) const {
    MetricsWriter w = writer(first - 1);
    for (std::int64_t s = first; s <= last; ++s) {
      w.add(router_row(s));
      w.add(step_row(s));
    }
    w.add(ValidationRow{.step = last, .loss = 0.5});
    w.rebuild();
  }
  fs::path folder_;
};

TEST_F(Metrics, TheFileHoldsWhatTheJournalHolds) {
  write(1, 5);
  const io::H5File file = io::H5File::open(folder_ / "metrics.h5");
  EXPECT_EQ(file.dataset("/train/loss").read_all<double>(),
            (std::vector<double>{1.0, 1.0 / 2, 1.0 / 3, 1.0 / 4, 1.0 / 5}));
  EXPECT_EQ(file.dataset("/train/step").read_all<std::int64_t>().back(), 5);
  EXPECT_EQ(file.dataset("/validation/loss").read_all<double>(), std::vector<double>{0.5});
  EXPECT_EQ(file.dataset("/router/counts").shape(), (Shape{5, 2, 3}));
  EXPECT_EQ(file.dataset("/router/counts").read_all<float>().back(), 5.0F);
}

TEST_F(Metrics, ResumingCutsRowsBeyondTheCheckpoint) {
  write(1, 5);
  {
    MetricsWriter w = writer(3);
    w.add(step_row(4));
  }
  const MetricsTable t = read_journal(folder_ / "metrics.journal");
  ASSERT_EQ(t.steps.size(), 4U);
  EXPECT_EQ(t.routers.size(), 3U);
  EXPECT_TRUE(t.validations.empty());
}

TEST_F(Metrics, ATornTailIsCutAndWhatCameBeforeStays) {
  write(1, 5);
  const fs::path journal = folder_ / "metrics.journal";
  fs::resize_file(journal, fs::file_size(journal) - 7);
  EXPECT_EQ(read_journal(journal).steps.size(), 5U);  // the validation row was torn
  EXPECT_TRUE(read_journal(journal).validations.empty());
  std::ofstream{journal, std::ios::app} << "garbage";
  MetricsWriter w = writer(100);
  w.add(step_row(6));
  EXPECT_EQ(read_journal(journal).steps.size(), 6U);
}

TEST_F(Metrics, AFlippedBitEndsTheJournalThere) {
  write(1, 5);
  const fs::path journal = folder_ / "metrics.journal";
  std::fstream f{journal, std::ios::in | std::ios::out | std::ios::binary};
  const auto middle = static_cast<std::streamoff>(fs::file_size(journal) / 2);
  f.seekp(middle);
  f.put('\x7F');
  f.close();
  const MetricsTable t = read_journal(journal);
  EXPECT_GE(t.steps.size(), 1U);
  EXPECT_LT(t.steps.size(), 5U);
}

/// Writes without end, rebuilding all the time.
[[noreturn]] void write_for_ever(const fs::path& folder) {
  MetricsWriter w{{.run_dir = folder, .router = kRouter, .rebuild_seconds = 0.0}, 1 << 20};
  for (std::int64_t s = 1;; ++s) {
    w.add(router_row(s));
    w.add(step_row(s));
  }
}

void wait_for_growth(const fs::path& journal) {
  const auto size = [&journal] { return fs::exists(journal) ? fs::file_size(journal) : 0; };
  const Stopwatch clock;
  for (const auto before = size(); size() <= before && clock.seconds() < 5.0;) ::usleep(500);
}

TEST_F(Metrics, OpensAfterKillsAtRandomInstants) {
  std::size_t most = 0;
  for (std::uint64_t kill = 0; kill < 100; ++kill) {
    const pid_t child = ::fork();
    if (child == 0) write_for_ever(folder_);
    // Half of the kills hit the start, the others a writer at work.
    if (kill % 2 == 1) wait_for_growth(folder_ / "metrics.journal");
    ::usleep(philox::block(3, philox::Purpose::test, kill).x0 % 20000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    if (!fs::exists(folder_ / "metrics.h5")) continue;  // killed before the first rebuild
    const io::H5File file = io::H5File::open(folder_ / "metrics.h5");
    const auto steps = file.dataset("/train/step").read_all<std::int64_t>();
    EXPECT_EQ(steps.size(), file.dataset("/train/loss").read_all<double>().size());
    most = std::max(most, steps.size());
  }
  EXPECT_GT(most, 0U);
}

}  // namespace
}  // namespace shoal::train
