#include "shoal/train/layout_search.hpp"

#include <gtest/gtest.h>

#include "shoal/train/plan.hpp"
#include "shoal/train/plan_text.hpp"
#include "train/memory_estimate.hpp"
#include "train/planned_run.hpp"

namespace shoal::train {
namespace {

RunConfig searched() {
  RunConfig c = test::planned_run({.vocabulary = 32000,
                                   .hidden = 1024,
                                   .layers = 12,
                                   .heads = 16,
                                   .groups = 4,
                                   .head_dim = 64,
                                   .experts = 16,
                                   .per_token = 2,
                                   .expert_width = 1024,
                                   .sequence = 2048,
                                   .batch = 96});
  c.model.max_position_embeddings = 2048;
  return c;
}

/// Counts nothing: memory is what the estimate said.
SearchOptions options(int gpus, double gigabytes) {
  return {.gpus = gpus,
          .keep = 5,
          .memory_bytes = static_cast<std::int64_t>(gigabytes * 1e9),
          .memory = predict_memory};
}

TEST(LayoutSearch, EveryLayoutDividesTheModel) {
  const RunConfig c = searched();
  const auto layouts = legal_layouts(c, 48, 8);
  EXPECT_GT(layouts.size(), 20U);
  for (const parallel::ParallelConfig& p : layouts) {
    EXPECT_LE(p.tp, 8);
    EXPECT_EQ(c.model.num_key_value_heads % p.tp, 0);
    EXPECT_EQ(48 % (p.tp * p.pp), 0);
    EXPECT_LE(p.pp, 12);
    const int dp = 48 / (p.tp * p.pp);
    EXPECT_EQ(c.training.global_batch_size % dp, 0);
    EXPECT_EQ(c.model.num_experts % p.ep, 0);
    EXPECT_EQ(dp * p.tp % p.ep, 0);
    std::vector<std::string> problems;
    parallel::validate(p, 48, problems);
    EXPECT_TRUE(problems.empty());
  }
  for (const parallel::ParallelConfig& p : legal_layouts(c, 48, 2)) EXPECT_LE(p.tp, 2);
}

TEST(LayoutSearch, TheBestComeFirstAndFit) {
  const auto best = search_layouts(searched(), test::published_model(), options(16, 72.0));
  ASSERT_GE(best.size(), 2U);
  EXPECT_LE(best.size(), 5U);
  for (std::size_t i = 0; i < best.size(); ++i) {
    EXPECT_LE(best[i].memory.bytes, 72'000'000'000);
    if (i > 0) {
      EXPECT_GE(best[i].cost.seconds, best[i - 1].cost.seconds);
    }
  }
}

TEST(LayoutSearch, LessMemoryNeverGivesAFasterLayout) {
  const auto roomy = search_layouts(searched(), test::published_model(), options(8, 72.0));
  const auto tight = search_layouts(searched(), test::published_model(), options(8, 6.0));
  ASSERT_FALSE(roomy.empty());
  ASSERT_FALSE(tight.empty());
  EXPECT_LE(tight.front().memory.bytes, 6'000'000'000);
  EXPECT_GE(tight.front().cost.seconds, roomy.front().cost.seconds);
  EXPECT_TRUE(search_layouts(searched(), test::published_model(), options(8, 0.01)).empty());
}

TEST(LayoutSearch, AskedForMemoryDecides) {
  SearchOptions o = options(8, 72.0);
  int asked = 0;
  o.memory = [&asked](const RunConfig& config, int) {
    ++asked;
    return MemoryFigure{.bytes = config.parallel.pp > 1 ? 1 : 100'000'000'000, .counted = true};
  };
  const auto best = search_layouts(searched(), test::published_model(), o);
  ASSERT_FALSE(best.empty());
  EXPECT_GT(asked, 0);
  for (const Candidate& c : best) EXPECT_GT(c.config.parallel.pp, 1);
}

TEST(LayoutSearch, BytesOfTheReductionAreThoseOfTheStep) {
  RunConfig c = searched();
  c.model.num_hidden_layers = 2;
  c.training.device = "cuda";
  c.training.micro_batch_size = 2;
  struct Case {
    int tp, pp, ep;
    bool zero;
  };
  for (const Case& k : {Case{1, 1, 1, true}, Case{1, 1, 1, false}, Case{2, 1, 1, true},
                        Case{1, 1, 4, true}, Case{2, 1, 2, true}, Case{1, 2, 2, true}}) {
    c.parallel.tp = k.tp;
    c.parallel.pp = k.pp;
    c.parallel.ep = k.ep;
    c.parallel.zero = k.zero;
    double most = 0.0;
    for (int stage = 0; stage < k.pp; ++stage) {
      most =
          std::max(most, static_cast<double>(plan(c, 8, stage * (8 / k.pp)).wire_bytes_per_step));
    }
    const double predicted = test::published_model().step(c, 8).sent.dp;
    EXPECT_NEAR(predicted, most, 1e-6 * most) << k.tp << k.pp << k.ep << k.zero;
  }
}

TEST(LayoutSearch, TheEstimateOfMemoryIsCloseToTheCount) {
  for (const Candidate& c :
       search_layouts(searched(), test::published_model(), options(16, 72.0))) {
    const double estimate = estimate_memory(c.config, 16, model_chunks(c.config));
    EXPECT_TRUE(c.memory.counted);
    EXPECT_NEAR(estimate, static_cast<double>(c.memory.bytes), 0.15 * estimate) << layout_text(c);
  }
}

TEST(LayoutSearch, ALargeModelNeedsMoreGpus) {
  RunConfig small = searched(), large = searched();
  large.model.num_hidden_layers = 48;
  large.model.hidden_size = 4096;
  large.model.num_experts = 64;
  large.training.global_batch_size = 512;
  const auto smallest = [](const RunConfig& c) {
    for (const HardwarePoint& point : sweep_gpus(c, test::published_model(), options(256, 72.0))) {
      if (!point.best.empty()) return point.gpus;
    }
    return 0;
  };
  EXPECT_EQ(smallest(small), 1);
  EXPECT_GE(smallest(large), 16);
}

TEST(PlanText, TheJobScriptAsksForTheRanksAndPassesTheLayout) {
  Candidate c{.config = searched(), .ranks = 32};
  c.config.parallel.tp = 2;
  c.config.parallel.ep = 4;
  c.config.parallel.ep_buffer_factor = 2.0;
  c.config.training.micro_batch_size = 3;
  c.config.compute.recompute_mlp = "full";
  const std::string text = sbatch_text(c, {.input = "inputs/train/x.ini", .gpus_per_node = 8});
  for (const char* part :
       {"#!/bin/bash\n", "#SBATCH --nodes=4\n", "#SBATCH --ntasks=32\n",
        "#SBATCH --ntasks-per-node=8\n", "#SBATCH --signal=TERM@300\n", "inputs/train/x.ini",
        "jobs/train.slurm", "--parallel.tp=2", "--parallel.ep=4",
        "--parallel.ep_buffer_factor=2.00", "--training.micro_batch_size=3",
        "--compute.recompute_mlp=full", "\"$@\""}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace shoal::train
