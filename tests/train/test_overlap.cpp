// Collectives of gradients and weights beside the passes of a step: when they start, and that they
// change nothing.
#include <gtest/gtest.h>

#include <algorithm>

#include "shoal/base/log.hpp"
#include "shoal/comm/call_log.hpp"
#include "shoal/train/plan.hpp"
#include "train/probe_run.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;
using comm::Operation;
using comm::RecordedCall;

/// Some rows, so that the toy model has a bucket or more for each layer.
constexpr std::int64_t kSmallBucket = 256;

class Overlap : public ::testing::Test {
 protected:
  void SetUp() override {
    if (world_.size() == 1) GTEST_SKIP() << "one rank reduces nothing";
    log::set_sink([](log::Level, std::string_view) {});
    folder_ = test::fresh_folder(world_, "overlap");
    test::make_corpus(world_, folder_ / "corpus");
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root() && !folder_.empty()) fs::remove_all(folder_);
  }
  [[nodiscard]] RunConfig config(const parallel::ParallelConfig& parallel, bool overlap) const {
    RunConfig c = test::divisible_config(folder_);
    c.parallel = parallel;
    c.parallel.overlap = overlap;
    c.parallel.bucket_elements = kSmallBucket;
    c.training.run_dir = (folder_ / (overlap ? "beside" : "after")).string();
    c.training.steps = 4;
    c.eval.interval = 2;
    return c;
  }
  /// Layouts of all ranks that have replicas.
  [[nodiscard]] std::vector<parallel::ParallelConfig> layouts() const {
    std::vector<parallel::ParallelConfig> all = {{}, {.ep = 2}, {.grad_reduce = "bf16"}};
    if (world_.size() == 4) {
      all.insert(all.end(), {{.tp = 2},
                             {.tp = 2, .ep = 4},
                             {.pp = 2},
                             {.pp = 2, .schedule = "zb-h1"},
                             {.pp = 2, .schedule = "zbv", .chunks = 2},
                             {.pp = 2, .schedule = "interleaved", .chunks = 2}});
    }
    for (std::size_t i = all.size(); i-- > 0;) {
      all.push_back(all[i]);
      all.back().zero = false;
    }
    return all;
  }
  /// What this rank asked for in one step, and the groups' names.
  [[nodiscard]] comm::RankCalls calls_of(const RunConfig& wanted) const {
    RunConfig c = wanted;
    resolve_vocab(c);
    const auto log = std::make_shared<comm::CallLog>();
    const parallel::ProcessGroups groups{world_, c.parallel};
    const comm::CollectivesFactory factory{world_, DeviceKind::cpu, {.calls = log}};
    ProbeRun probe{c, {.groups = &groups, .factory = &factory}};
    probe.step();
    return log->calls();
  }
  /// Position of the first or last call of `op` on groups of this name; -1 without one.
  [[nodiscard]] static std::ptrdiff_t find(const comm::RankCalls& calls, const std::string& name,
                                           Operation op, bool last) {
    std::ptrdiff_t at = -1;
    for (std::size_t i = 0; i < calls.calls.size(); ++i) {
      const RecordedCall& c = calls.calls[i];
      if (c.op != op || calls.groups[static_cast<std::size_t>(c.group)].name != name) continue;
      at = static_cast<std::ptrdiff_t>(i);
      if (!last) break;
    }
    return at;
  }

  Communicator world_ = Communicator::world();
  fs::path folder_;
};

/// Two tensor parallel ranks meet in every layer's backward, its last one included: what comes
/// before their last reduce-scatter of activation gradients began during the backward pass.
TEST_F(Overlap, ABucketsReductionBeginsBeforeTheLastLayersBackwardEnds) {
  if (world_.size() != 4) GTEST_SKIP() << "needs 4 ranks";
  const auto first_bucket = [](const comm::RankCalls& calls) {
    return find(calls, "dp", Operation::reduce_scatter, false);
  };
  const auto last_layer = [](const comm::RankCalls& calls) {
    return find(calls, "tp", Operation::reduce_scatter, true);
  };
  const comm::RankCalls beside = calls_of(config({.tp = 2}, true));
  ASSERT_GE(first_bucket(beside), 0);
  EXPECT_LT(first_bucket(beside), last_layer(beside));
  const comm::RankCalls after = calls_of(config({.tp = 2}, false));
  EXPECT_GT(first_bucket(after), last_layer(after));
}

/// Each rank starts its buckets in the same order among all its other collectives.
TEST_F(Overlap, AllRanksIssueTheSameCollectivesInTheSameOrder) {
  for (const parallel::ParallelConfig& parallel : layouts()) {
    const comm::RankCalls mine = calls_of(config(parallel, true));
    const auto all = comm::gather_calls(world_, mine);
    if (!world_.is_root()) continue;
    const auto problem = comm::check_sequences(all);
    EXPECT_FALSE(problem) << *problem;
  }
}

/// A bucket waits for the last micro-batch: with more of them nothing is reduced twice or early.
TEST_F(Overlap, TheCallsAreThoseOfAStepThatReducesAfterwards) {
  for (const parallel::ParallelConfig& parallel : layouts()) {
    std::vector<std::vector<std::int64_t>> bytes;
    for (const bool overlap : {true, false}) {
      const comm::RankCalls calls = calls_of(config(parallel, overlap));
      std::vector<std::int64_t>& sizes = bytes.emplace_back();
      for (const RecordedCall& c : calls.calls) {
        const std::string& name = calls.groups[static_cast<std::size_t>(c.group)].name;
        if (name == "dp" || name == "stage" || name == "edp") sizes.push_back(c.bytes);
      }
      std::sort(sizes.begin(), sizes.end());
    }
    EXPECT_FALSE(bytes.front().empty());
    EXPECT_EQ(bytes.front(), bytes.back());
  }
}

TEST_F(Overlap, ChangesNoBits) {
  for (const parallel::ParallelConfig& parallel : layouts()) {
    SCOPED_TRACE("tp=" + std::to_string(parallel.tp) + " pp=" + std::to_string(parallel.pp) +
                 " ep=" + std::to_string(parallel.ep) + " " + parallel.schedule +
                 (parallel.zero ? "" : " without ZeRO"));
    std::vector<std::string> states;
    std::vector<double> early;
    std::vector<std::vector<double>> losses;
    for (const bool overlap : {true, false}) {
      const RunConfig c = config(parallel, overlap);
      EXPECT_EQ(run(c, world_), ExitCode::finished);
      states.push_back(test::state_digest(find_checkpoint(c.training.run_dir)));
      const MetricsTable metrics = test::metrics_of(c.training.run_dir);
      early.push_back(metrics.steps.back()[Column::reduced_early]);
      std::vector<double>& values = losses.emplace_back();
      for (const StepRow& row : metrics.steps) values.push_back(row[Column::loss]);
      for (const ValidationRow& row : metrics.validations) values.push_back(row.loss);
      world_.barrier();
      if (world_.is_root()) fs::remove_all(c.training.run_dir);
      world_.barrier();
    }
    EXPECT_TRUE(states.front() == states.back()) << "weights or states differ";
    EXPECT_EQ(losses.front(), losses.back());
    EXPECT_GT(early.front(), 0.0) << "of the gradients, beside the backward pass";
    EXPECT_EQ(early.back(), 0.0);
  }
}

}  // namespace
}  // namespace shoal::train
