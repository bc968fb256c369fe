#include <gtest/gtest.h>

#include "shoal/base/log.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;

/// Four expert ranks whose buffers hold even shares only, so that any routing overflows them.
class ExpertOverflow : public ::testing::Test {
 protected:
  void SetUp() override {
    if (world_.size() != 4) GTEST_SKIP() << "needs 4 ranks";
    log::set_sink([this](log::Level level, std::string_view text) {
      if (level == log::Level::error) errors_ += std::string{text} + "\n";
    });
    folder_ = test::fresh_folder(world_, "expert-overflow");
    test::make_corpus(world_, folder_ / "corpus");
  }
  void TearDown() override {
    log::set_sink([](log::Level, std::string_view) {});
    world_.barrier();
    if (world_.is_root() && !folder_.empty()) fs::remove_all(folder_);
  }
  [[nodiscard]] RunConfig config(const std::string& run, double factor) const {
    RunConfig c = test::divisible_config(folder_);
    c.training.run_dir = (folder_ / run).string();
    c.parallel.ep = 4;
    c.parallel.ep_buffer_factor = factor;
    return c;
  }
  /// The factor that the message asks for.
  [[nodiscard]] double named_factor() const {
    const std::string words = "parallel.ep_buffer_factor of at least ";
    const std::size_t at = errors_.find(words);
    if (at == std::string::npos) return 0.0;
    return std::stod(errors_.substr(at + words.size()));
  }

  Communicator world_ = Communicator::world();
  fs::path folder_;
  std::string errors_;
};

TEST_F(ExpertOverflow, StopsWithACheckpointAndNamesTheFactorThatIsEnough) {
  const RunConfig tight = config("tight", 1.0);
  ASSERT_EQ(run(tight, world_), ExitCode::can_continue);
  const double factor = named_factor();
  ASSERT_GT(factor, 1.0) << errors_;
  const fs::path stopped = find_checkpoint(tight.training.run_dir);
  const std::size_t skipped = test::metrics_of(tight.training.run_dir).steps.size();
  for (const StepRow& row : test::metrics_of(tight.training.run_dir).steps) {
    EXPECT_EQ(row[Column::skipped], 1.0) << row.step;
  }
  // Nothing was learnt from the rows that fitted: the weights are those of the start.
  RunConfig frozen = config("frozen", 0.0);
  frozen.training.steps = 1;
  frozen.optim.lr = 0.0;
  ASSERT_EQ(run(frozen, world_), ExitCode::finished);
  EXPECT_EQ(test::weight_distance(stopped, find_checkpoint(frozen.training.run_dir)), 0.0);

  RunConfig enough = config("enough", factor);
  enough.training.steps = 1;
  EXPECT_EQ(run(enough, world_), ExitCode::finished) << factor << ": " << errors_;

  ASSERT_EQ(run(config("tight", 4.0), world_), ExitCode::finished);
  const auto steps = test::metrics_of(tight.training.run_dir).steps;
  ASSERT_EQ(steps.size(), 8U);
  for (std::size_t i = skipped; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i][Column::skipped], 0.0) << i;
  }
  EXPECT_GT(test::weight_distance(stopped, find_checkpoint(tight.training.run_dir)), 0.0);
}

}  // namespace
}  // namespace shoal::train
