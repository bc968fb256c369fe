#include <gtest/gtest.h>

#include <cmath>

#include "shoal/base/log.hpp"
#include "shoal/train/plan.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;

/// A folder with the toy corpus.
class Run : public ::testing::Test {
 protected:
  void SetUp() override {
    log::set_sink([](log::Level, std::string_view) {});
    folder_ =
        test::fresh_folder(world_, ::testing::UnitTest::GetInstance()->current_test_info()->name());
    test::make_corpus(world_, folder_ / "corpus");
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root()) fs::remove_all(folder_);
  }
  [[nodiscard]] RunConfig config(const std::string& run) const {
    RunConfig c = test::toy_config(folder_);
    c.training.run_dir = (folder_ / run).string();
    return c;
  }
  [[nodiscard]] fs::path step_of(const std::string& run, int step) const {
    return folder_ / run / ("step-0000000" + std::to_string(step));
  }

  /// A run as it was after step 4, its metrics ahead of its checkpoint.
  void copy_without_last(const fs::path& from, const fs::path& to) const {
    if (world_.is_root()) {
      fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      fs::remove_all(to / "step-00000008");
    }
    world_.barrier();
  }

  Communicator world_ = Communicator::world();
  fs::path folder_;
};

/// All columns that do not measure time.
std::vector<double> numbers(const MetricsTable& table) {
  std::vector<double> out;
  for (const StepRow& row : table.steps) {
    out.push_back(static_cast<double>(row.step));
    for (const Column c : {Column::loss, Column::aux_loss, Column::z_loss, Column::grad_norm,
                           Column::lr, Column::tokens, Column::loss_scale, Column::skipped}) {
      out.push_back(row[c]);
    }
  }
  for (const ValidationRow& row : table.validations) out.push_back(row.loss);
  for (const RouterRow& row : table.routers) {
    for (const auto* part : {&row.counts, &row.bias, &row.entropy, &row.drop_rate}) {
      out.insert(out.end(), part->begin(), part->end());
    }
  }
  return out;
}

TEST_F(Run, TheSameRunTwiceGivesTheSameBits) {
  EXPECT_EQ(run(config("a"), world_), ExitCode::finished);
  EXPECT_EQ(run(config("b"), world_), ExitCode::finished);
  EXPECT_EQ(test::state_digest(step_of("a", 8)), test::state_digest(step_of("b", 8)));
  EXPECT_EQ(numbers(test::metrics_of(folder_ / "a")), numbers(test::metrics_of(folder_ / "b")));
}

TEST_F(Run, EveryPrecisionResumesBitForBit) {
  for (const std::string precision : {"fp32", "bf16", "fp16"}) {
    RunConfig whole = config("whole-" + precision);
    whole.training.precision = precision;
    if (precision == "bf16") whole.optim.state_dtype = "bf16";
    if (precision == "fp16") whole.optim.loss_scale_interval = 3;
    ASSERT_EQ(run(whole, world_), ExitCode::finished);

    // A run that ended after step 4 is what a run that was killed then leaves behind.
    RunConfig resumed = whole;
    resumed.training.run_dir = (folder_ / ("part-" + precision)).string();
    copy_without_last(whole.training.run_dir, resumed.training.run_dir);
    ASSERT_EQ(run(resumed, world_), ExitCode::finished);
    EXPECT_EQ(test::state_digest(step_of("whole-" + precision, 8)),
              test::state_digest(step_of("part-" + precision, 8)))
        << precision;
    EXPECT_EQ(numbers(test::metrics_of(whole.training.run_dir)),
              numbers(test::metrics_of(resumed.training.run_dir)))
        << precision;
  }
}

TEST_F(Run, OneRankAndManyAgreeToRounding) {
  RunConfig many = config("many");
  RunConfig one = config("one");
  ASSERT_EQ(run(many, world_), ExitCode::finished);
  const Communicator self = Communicator::self();
  if (world_.is_root()) {
    EXPECT_EQ(run(one, self), ExitCode::finished);
  }
  world_.barrier();
  const MetricsTable a = test::metrics_of(folder_ / "many");
  const MetricsTable b = test::metrics_of(folder_ / "one");
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (std::size_t i = 0; i < a.steps.size(); ++i) {
    EXPECT_NEAR(a.steps[i][Column::loss], b.steps[i][Column::loss], 2e-5) << i;
    EXPECT_NEAR(a.steps[i][Column::grad_norm], b.steps[i][Column::grad_norm], 2e-4) << i;
  }
  EXPECT_NEAR(a.validations.back().loss, b.validations.back().loss, 2e-5);
  EXPECT_LE(test::weight_distance(step_of("many", 4), step_of("one", 4)), 1e-4);
  EXPECT_EQ(read_manifest(step_of("many", 8)).state.at("ledger"),
            read_manifest(step_of("one", 8)).state.at("ledger"));
}

TEST_F(Run, ResumesOnAnotherNumberOfRanks) {
  ASSERT_EQ(run(config("many"), world_), ExitCode::finished);
  copy_without_last(folder_ / "many", folder_ / "one");
  const Communicator self = Communicator::self();
  if (world_.is_root()) {
    EXPECT_EQ(run(config("one"), self), ExitCode::finished);
  }
  world_.barrier();
  const auto a = test::metrics_of(folder_ / "many").steps;
  const auto b = test::metrics_of(folder_ / "one").steps;
  ASSERT_EQ(b.size(), 8U);
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i][Column::loss], b[i][Column::loss], i < 4 ? 0.0 : 2e-5) << i;
  }
  EXPECT_LE(test::weight_distance(step_of("many", 8), step_of("one", 8)), 1e-4);
  EXPECT_EQ(read_manifest(step_of("many", 8)).state.at("ledger"),
            read_manifest(step_of("one", 8)).state.at("ledger"));
}

TEST_F(Run, MicroBatchesOfAnySizeAgreeToRounding) {
  RunConfig large = config("large");
  large.training.micro_batch_size = 2;
  ASSERT_EQ(run(config("small"), world_), ExitCode::finished);
  ASSERT_EQ(run(large, world_), ExitCode::finished);
  const auto a = test::metrics_of(folder_ / "small").steps;
  const auto b = test::metrics_of(folder_ / "large").steps;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i][Column::loss], b[i][Column::loss], 2e-5);
    EXPECT_NEAR(a[i][Column::aux_loss], b[i][Column::aux_loss], 1e-5);
  }
}

TEST_F(Run, LossFallsAndTheLedgerCountsEveryToken) {
  RunConfig c = config("learn");
  c.training.steps = 60;
  c.checkpoint.interval = 0;
  ASSERT_EQ(run(c, world_), ExitCode::finished);
  const MetricsTable t = test::metrics_of(folder_ / "learn");
  ASSERT_EQ(t.steps.size(), 60U);
  EXPECT_GT(t.steps.front()[Column::loss], 3.2);  // ln 32 = 3.47
  EXPECT_LT(t.steps.back()[Column::loss], 2.2);
  EXPECT_LT(t.validations.back().loss, t.validations.front().loss);
  ASSERT_EQ(t.routers.size(), 60U);
  EXPECT_EQ(t.router.layers, 1);
  float slots = 0.0F;
  for (const float n : t.routers.back().counts) slots += n;
  EXPECT_EQ(slots, 4 * 16 * 2);
  EXPECT_NE(t.routers.back().bias, std::vector<float>(4, 0.0F));
}

TEST_F(Run, AnOverflowIsSkippedAndHalvesTheLossScale) {
  RunConfig c = config("overflow");
  c.training.precision = "fp16";
  c.optim.initial_loss_scale = 1e9;  // gradients of the first steps overflow fp16
  c.training.steps = 24;
  ASSERT_EQ(run(c, world_), ExitCode::finished);
  const auto steps = test::metrics_of(folder_ / "overflow").steps;
  EXPECT_EQ(steps.front()[Column::skipped], 1.0);
  EXPECT_EQ(steps.front()[Column::loss_scale], 5e8);
  EXPECT_EQ(steps.back()[Column::skipped], 0.0);
  EXPECT_LT(steps.back()[Column::loss], steps.front()[Column::loss]);
}

TEST_F(Run, TooManySkipsInARowEndTheRunForGood) {
  RunConfig c = config("diverged");
  c.optim.lr = 1e30;
  c.optim.clip_norm = 0.0;
  c.optim.warmup_steps = 0;
  c.optim.max_skips_in_a_row = 3;
  c.training.steps = 40;
  EXPECT_EQ(run(c, world_), ExitCode::do_not_restart);
}

TEST_F(Run, ThePlanIsWhatTheArenaTakes) {
  RunConfig c = config("plan");
  resolve_vocab(c);
  EXPECT_EQ(c.model.vocab_size, 32);
  const PlanReport report = plan(c, world_.size(), world_.rank());
  EXPECT_EQ(report.tokens_per_step, 64);
  EXPECT_GT(report.memory.total(), 0);
  EXPECT_EQ(report.wire_bytes_per_step > 0, world_.size() > 1);
  EXPECT_NE(report.text().find(std::to_string(report.memory.total()) + " bytes"),
            std::string::npos);
  test::expect_planned_memory(c, world_);
}

TEST_F(Run, AFinishedRunStartedAgainAddsNothing) {
  ASSERT_EQ(run(config("again"), world_), ExitCode::finished);
  const auto before = numbers(test::metrics_of(folder_ / "again"));
  ASSERT_EQ(run(config("again"), world_), ExitCode::finished);
  EXPECT_EQ(numbers(test::metrics_of(folder_ / "again")), before);
}

TEST_F(Run, InitFromTakesWeightsOnly) {
  ASSERT_EQ(run(config("first"), world_), ExitCode::finished);
  RunConfig second = config("second");
  second.checkpoint.init_from = (folder_ / "first").string();
  second.optim.kind = "adamw";
  second.training.steps = 1;
  second.optim.lr = 0.0;
  ASSERT_EQ(run(second, world_), ExitCode::finished);
  EXPECT_EQ(test::weight_distance(step_of("first", 8), step_of("second", 1)), 0.0);
}

TEST_F(Run, AFreshStartDoesNotMixWithAnEarlierRun) {
  ASSERT_EQ(run(config("mixed"), world_), ExitCode::finished);
  RunConfig again = config("mixed");
  again.checkpoint.restart = "none";
  EXPECT_THROW((void)run(again, world_), InputError);
}

}  // namespace
}  // namespace shoal::train
