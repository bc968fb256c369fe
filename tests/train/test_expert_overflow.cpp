#include <gtest/gtest.h>

#include <utility>

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

  /// On all ranks before the next run changes the files. Collective.
  [[nodiscard]] MetricsTable metrics_of(const RunConfig& c) const {
    MetricsTable table = test::metrics_of(c.training.run_dir);
    world_.barrier();
    return table;
  }
  [[nodiscard]] std::vector<ValidationRow> validations_of(const RunConfig& c) const {
    return metrics_of(c).validations;
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
  enough.data.validation = "";  // whose rows may need more
  EXPECT_EQ(run(enough, world_), ExitCode::finished) << factor << ": " << errors_;

  ASSERT_EQ(run(config("tight", 4.0), world_), ExitCode::finished);
  const auto steps = test::metrics_of(tight.training.run_dir).steps;
  ASSERT_EQ(steps.size(), 8U);
  for (std::size_t i = skipped; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i][Column::skipped], 0.0) << i;
  }
  EXPECT_GT(test::weight_distance(stopped, find_checkpoint(tight.training.run_dir)), 0.0);
}

TEST_F(ExpertOverflow, RefusesAnEvaluationAndMakesItUpLater) {
  RunConfig trained = config("run", 0.0);
  const std::string validation = std::exchange(trained.data.validation, "");
  ASSERT_EQ(run(trained, world_), ExitCode::finished);
  RunConfig tight = config("run", 1.0);
  tight.data.validation = validation;
  ASSERT_EQ(run(tight, world_), ExitCode::can_continue) << "only the evaluation is left";
  const double factor = named_factor();
  ASSERT_GT(factor, 1.0) << errors_;
  EXPECT_TRUE(validations_of(tight).empty());

  RunConfig enough = tight;
  enough.parallel.ep_buffer_factor = factor;
  ASSERT_EQ(run(enough, world_), ExitCode::finished) << factor << ": " << errors_;
  const auto found = validations_of(tight);
  ASSERT_EQ(found.size(), 1U);
  ASSERT_EQ(run(enough, world_), ExitCode::finished);
  EXPECT_EQ(validations_of(tight).size(), 1U) << "made twice";

  RunConfig worst_case = config("worst-case", 0.0);
  worst_case.data.validation = validation;
  ASSERT_EQ(run(worst_case, world_), ExitCode::finished);
  EXPECT_EQ(validations_of(worst_case).back().loss, found.front().loss);
}

TEST_F(ExpertOverflow, RefusesAnEvaluationThatIsDueDuringTheRun) {
  RunConfig tight = config("due", 1.0);
  tight.eval.interval = 2;
  tight.training.steps = 2;
  const std::string validation = std::exchange(tight.data.validation, "");
  tight.parallel.ep_buffer_factor = 0.0;
  ASSERT_EQ(run(tight, world_), ExitCode::finished);
  tight.training.steps = 4;
  tight.data.validation = validation;
  tight.parallel.ep_buffer_factor = 1.0;
  ASSERT_EQ(run(tight, world_), ExitCode::can_continue);
  EXPECT_EQ(metrics_of(tight).steps.size(), 2U) << "no step before it";
  tight.parallel.ep_buffer_factor = 0.0;
  ASSERT_EQ(run(tight, world_), ExitCode::finished);
  const auto found = validations_of(tight);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found.front().step, 2);
}

}  // namespace
}  // namespace shoal::train
