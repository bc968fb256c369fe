#include <gtest/gtest.h>

#include "shoal/base/log.hpp"
#include "shoal/train/plan.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;

struct Case {
  const char* name;
  int ranks;
  parallel::ParallelConfig parallel;
  bool tied = false;  ///< word embeddings
};

/// Each axis alone, the schedules, and mixes.
std::vector<Case> cases() {
  return {{"dp4", 4, {}},
          {"tp2dp2", 4, {.tp = 2}},
          {"pp2dp2", 4, {.pp = 2}},
          {"ep2dp4", 4, {.ep = 2}},
          {"ep4dp4", 4, {.ep = 4}},
          {"tp2ep4dp2", 4, {.tp = 2, .ep = 4}},
          {"pp2tp2", 4, {.tp = 2, .pp = 2, .schedule = "gpipe"}},
          {"pp2zbv", 4, {.pp = 2, .schedule = "zbv", .chunks = 2}},
          {"pp2zbh1ep2", 4, {.pp = 2, .ep = 2, .schedule = "zb-h1"}},
          {"pp2interleaved", 4, {.tp = 2, .pp = 2, .schedule = "interleaved", .chunks = 2}},
          {"pp4stages", 4, {.pp = 4, .stages = "1,2,1,1"}},
          {"pp2dp2tied", 4, {.pp = 2}, true},
          {"pp2tp2tied", 4, {.tp = 2, .pp = 2, .schedule = "zbv", .chunks = 2}, true},
          {"pp2tp2dp2ep4", 8, {.tp = 2, .pp = 2, .ep = 4, .schedule = "zb-h1"}},
          {"pp4tp2", 8, {.tp = 2, .pp = 4, .ep = 2}}};
}

struct Layout {
  Case where;
  bool zero = true;
};
std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (const Case& c : cases()) {
    for (const bool zero : {true, false}) all.push_back({c, zero});
  }
  return all;
}
std::string name_of(const Layout& layout) {
  return std::string{layout.where.name} + (layout.zero ? "_zero" : "_whole");
}
void PrintTo(const Layout& layout, std::ostream* out) {
  *out << name_of(layout);
}

constexpr int kSteps = 6;
constexpr int kHalf = 3;

// Layouts differ in the order of fp32 sums only. A relative 6e-8 each, over some hundred terms and
// six steps whose updates divide by the root of v, stays below these; a wrong factor or a missing
// term in any gradient is far above.
constexpr double kLoss = 2e-5;
constexpr double kNorm = 2e-4;
constexpr double kWeight = 1e-4;

/// The toy run on a layout of all ranks, next to the same run on one rank.
class Layouts : public ::testing::TestWithParam<Layout> {
 protected:
  void SetUp() override {
    if (world_.size() != GetParam().where.ranks) {
      GTEST_SKIP() << "needs " << GetParam().where.ranks << " ranks";
    }
    log::set_sink([](log::Level, std::string_view) {});
    folder_ = test::fresh_folder(world_, "layouts");
    test::make_corpus(world_, folder_ / "corpus");
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root() && !folder_.empty()) fs::remove_all(folder_);
  }

  [[nodiscard]] RunConfig config(const std::string& run) const {
    RunConfig c = test::divisible_config(folder_);
    c.training.run_dir = (folder_ / run).string();
    c.training.steps = kSteps;
    c.checkpoint.interval = c.eval.interval = kHalf;
    c.model.tie_word_embeddings = GetParam().where.tied;
    return c;
  }
  [[nodiscard]] RunConfig config(const std::string& run, const Layout& layout) const {
    RunConfig c = config(run);
    c.parallel = layout.where.parallel;
    c.parallel.zero = layout.zero;
    c.parallel.bucket_elements = 1024;  // several for each layer, so that they overlap with passes
    return c;
  }
  [[nodiscard]] fs::path step_of(const std::string& run, int step) const {
    return folder_ / run / ("step-0000000" + std::to_string(step));
  }
  /// `to` becomes the run `from` as it was in its middle.
  void copy_first_half(const std::string& from, const std::string& to) const {
    if (world_.is_root()) {
      fs::copy(folder_ / from, folder_ / to,
               fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      fs::remove_all(step_of(to, kSteps));
    }
    world_.barrier();
  }
  /// Another layout of the same model and number of ranks, with the other kind of shards.
  [[nodiscard]] Layout another() const {
    std::vector<Layout> same;
    std::size_t mine = 0;
    for (const Layout& layout : layouts()) {
      if (layout.where.ranks != world_.size() || layout.where.tied != GetParam().where.tied) {
        continue;
      }
      if (name_of(layout) == name_of(GetParam())) mine = same.size();
      same.push_back(layout);
    }
    return same[(mine + 3) % same.size()];
  }
  void expect_same_samples(const std::string& a, const std::string& b) const {
    EXPECT_EQ(read_manifest(step_of(a, kSteps)).state.at("ledger"),
              read_manifest(step_of(b, kSteps)).state.at("ledger"));
  }
  void expect_close(const std::string& a, const std::string& b) const {
    const MetricsTable x = test::metrics_of(folder_ / a), y = test::metrics_of(folder_ / b);
    ASSERT_EQ(x.steps.size(), std::size_t{kSteps});
    ASSERT_EQ(y.steps.size(), std::size_t{kSteps});
    for (std::size_t i = 0; i < x.steps.size(); ++i) {
      EXPECT_NEAR(x.steps[i][Column::loss], y.steps[i][Column::loss], kLoss) << i;
      EXPECT_NEAR(x.steps[i][Column::aux_loss], y.steps[i][Column::aux_loss], kLoss) << i;
      EXPECT_NEAR(x.steps[i][Column::grad_norm], y.steps[i][Column::grad_norm], kNorm) << i;
    }
    ASSERT_EQ(x.validations.size(), y.validations.size());
    for (std::size_t i = 0; i < x.validations.size(); ++i) {
      EXPECT_NEAR(x.validations[i].loss, y.validations[i].loss, kLoss) << i;
    }
    EXPECT_LE(test::weight_distance(step_of(a, kSteps), step_of(b, kSteps)), kWeight);
    expect_same_samples(a, b);
  }

  Communicator world_ = Communicator::world();
  fs::path folder_;
};

TEST_P(Layouts, AgreeWithOneRank) {
  ASSERT_EQ(run(config("many", GetParam()), world_), ExitCode::finished);
  const Communicator self = Communicator::self();
  if (world_.is_root()) {
    EXPECT_EQ(run(config("one"), self), ExitCode::finished);
  }
  world_.barrier();
  expect_close("many", "one");
  const MetricsTable many = test::metrics_of(folder_ / "many");
  const MetricsTable one = test::metrics_of(folder_ / "one");
  EXPECT_EQ(many.routers.front().counts, one.routers.front().counts);
  EXPECT_EQ(many.routers.front().bias, one.routers.front().bias);
}

TEST_P(Layouts, ContinueBitForBitAndOnAnotherLayoutToRounding) {
  ASSERT_EQ(run(config("whole", GetParam()), world_), ExitCode::finished);
  copy_first_half("whole", "same");
  ASSERT_EQ(run(config("same", GetParam()), world_), ExitCode::finished);
  EXPECT_EQ(test::state_digest(step_of("whole", kSteps)),
            test::state_digest(step_of("same", kSteps)));
  expect_same_samples("whole", "same");

  const Layout other = another();
  SCOPED_TRACE("continued on " + name_of(other));
  copy_first_half("whole", "other");
  ASSERT_EQ(run(config("other", other), world_), ExitCode::finished);
  expect_close("whole", "other");
}

TEST_P(Layouts, TakeThePlannedMemory) {
  RunConfig c = config("memory", GetParam());
  resolve_vocab(c);
  c.eval.interval = 2;
  test::expect_planned_memory(c, world_);
}

INSTANTIATE_TEST_SUITE_P(All, Layouts, ::testing::ValuesIn(layouts()),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace shoal::train
