#include <gtest/gtest.h>

#include "shoal/base/log.hpp"
#include "shoal/train/benchmark.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;

/// Whole runs of this rank alone, in a folder with the toy corpus.
class StepPaths : public ::testing::Test {
 protected:
  void SetUp() override {
    log::set_sink([](log::Level, std::string_view) {});
    folder_ = test::fresh_folder(world_, "step-paths");
    test::make_corpus(world_, folder_ / "corpus");
  }
  void TearDown() override {
    world_.barrier();
    if (world_.is_root() && !folder_.empty()) fs::remove_all(folder_);
  }
  /// Wide enough for every kernel of a Hopper GPU.
  [[nodiscard]] RunConfig config(const std::string& run) const {
    RunConfig c = test::toy_config(folder_);
    c.model.hidden_size = 128;
    c.model.num_attention_heads = 4;
    c.model.num_key_value_heads = 2;
    c.model.head_dim = 64;
    c.model.max_position_embeddings = 128;
    c.model.intermediate_size = 128;
    c.model.moe_intermediate_size = 64;
    c.model.vocab_size = 64;
    c.optim.lr = 1e-3;
    c.training.seq_len = 128;
    c.training.micro_batch_size = 2;
    c.training.run_dir = (folder_ / run).string();
    c.eval.interval = 0;
    c.data.validation.clear();
    return c;
  }
  void run_alone(const RunConfig& c) const {
    if (!world_.is_root()) return;
    ASSERT_EQ(run(c, Communicator::self()), ExitCode::finished);
  }
  [[nodiscard]] std::vector<double> losses(const std::string& run) const {
    std::vector<double> values;
    for (const StepRow& row : test::metrics_of(folder_ / run).steps) {
      values.push_back(row[Column::loss]);
      EXPECT_EQ(row[Column::skipped], 0.0);
    }
    return values;
  }

  Communicator world_ = Communicator::world();
  fs::path folder_;
};

bool on_gpu() {
  return cuda_device_count() > 0;
}

class GpuGraph : public StepPaths, public ::testing::WithParamInterface<std::string> {};

/// Two micro-batches a step, dropout, balance bias and recompute, so that what changes from step to
/// step (learning rate, momentum, seed, loss scale, bias) must reach the recorded kernels.
TEST_P(GpuGraph, GivesTheBitsOfKernelByKernel) {
  if (!on_gpu()) GTEST_SKIP() << "no CUDA device on this host";
  constexpr int kSteps = 5;
  for (const bool graph : {true, false}) {
    RunConfig c = config(graph ? "graph" : "kernels");
    c.training.device = "cuda";
    c.training.precision = GetParam();
    c.training.cuda_graph = graph;
    c.training.steps = c.checkpoint.interval = kSteps;
    c.model.attention_dropout = c.model.expert_dropout = 0.1;
    c.compute.recompute_mlp = "selective";
    run_alone(c);
  }
  if (!world_.is_root()) return;
  ASSERT_EQ(losses("graph").size(), std::size_t{kSteps});
  EXPECT_EQ(losses("graph"), losses("kernels"));
  const std::string last = "step-0000000" + std::to_string(kSteps);
  EXPECT_EQ(test::state_digest(folder_ / "graph" / last),
            test::state_digest(folder_ / "kernels" / last));
}

/// Otherwise the comparison above would say nothing.
TEST_P(GpuGraph, IsRecorded) {
  if (!on_gpu()) GTEST_SKIP() << "no CUDA device on this host";
  if (!world_.is_root()) return;
  RunConfig c = config("unused");
  c.training.device = "cuda";
  c.training.precision = GetParam();
  for (const bool graph : {true, false}) {
    c.training.cuda_graph = graph;
    const StepBenchmark result = benchmark_step(c, {.warmup = 2, .steps = 1}, Communicator::self());
    EXPECT_EQ(result.cuda_graph, graph);
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, GpuGraph, ::testing::Values("bf16", "fp16", "fp32"),
                         [](const auto& info) { return info.param; });

class FastPath : public StepPaths, public ::testing::WithParamInterface<std::string> {};

/// The same weights and data in bf16 on a device and in fp32 on the CPU.
TEST_P(FastPath, LosesAsTheCpuInFp32Does) {
  if (GetParam() == "cuda" && !on_gpu()) GTEST_SKIP() << "no CUDA device on this host";
  constexpr int kSteps = 50;
  constexpr double kShare = 0.005;
  for (const bool fast : {true, false}) {
    RunConfig c = config(fast ? "fast" : "reference");
    c.training.steps = kSteps;
    c.checkpoint.interval = 0;
    if (fast) {
      c.training.device = GetParam();
      c.training.precision = "bf16";
    }
    run_alone(c);
  }
  if (!world_.is_root()) return;
  const std::vector<double> fast = losses("fast"), reference = losses("reference");
  ASSERT_EQ(fast.size(), std::size_t{kSteps});
  ASSERT_EQ(reference.size(), std::size_t{kSteps});
  EXPECT_LT(reference.back(), 0.8 * reference.front()) << "nothing was learnt";
  for (std::size_t i = 0; i < reference.size(); ++i) {
    EXPECT_NEAR(fast[i], reference[i], kShare * reference[i]) << "step " << i + 1;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, FastPath, ::testing::Values("cpu", "cuda"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace shoal::train
