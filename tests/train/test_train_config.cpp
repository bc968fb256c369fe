#include <gtest/gtest.h>

#include <algorithm>

#include "shoal/base/error.hpp"
#include "shoal/train/train_config.hpp"
#include "train/host_place.hpp"
#include "train/measure.hpp"

namespace shoal::train {
namespace {

bool has(const std::vector<std::string>& problems, const std::string& start) {
  return std::any_of(problems.begin(), problems.end(),
                     [&](const std::string& p) { return p.find(start) == 0; });
}

TEST(TrainConfig, AllProblemsOfAllSectionsComeAtOnce) {
  RunConfig c;
  c.training.precision = "fp8";
  c.training.seq_len = 0;
  c.optim.lr = -1.0;
  c.checkpoint.deflate_level = 12;
  c.eval.interval = 10;
  c.parallel.tp = 3;
  c.parallel.stages = "3,2";
  std::vector<std::string> problems;
  validate(c, 4, problems);
  for (const char* key :
       {"training.precision = fp8: allowed: fp32, bf16, fp16", "training.seq_len = 0", "optim.lr",
        "checkpoint.deflate_level = 12", "eval.interval = 10: needs data.validation",
        "-np 4 does not fit the layout", "parallel.tp = 3; allowed: a divisor of",
        "parallel.stages = 3,2: 2 numbers", "data.train is missing"}) {
    EXPECT_TRUE(has(problems, key)) << key;
  }
}

TEST(TrainConfig, BatchesMustFitTheRanks) {
  RunConfig c;
  c.data.train = "x";
  std::vector<std::string> problems;
  c.training.global_batch_size = 10;
  validate(c, 4, problems);
  EXPECT_TRUE(has(problems, "training.global_batch_size = 10: must be a multiple of the 4"));
  problems.clear();
  c.training.global_batch_size = 24;
  c.training.micro_batch_size = 4;
  validate(c, 4, problems);
  EXPECT_TRUE(has(problems, "training.micro_batch_size = 4: must divide the 6"));
  problems.clear();
  c.training.micro_batch_size = 3;
  validate(c, 4, problems);
  EXPECT_TRUE(problems.empty()) << problems.front();
  const BatchShape shape = batch_shape(c.training, 4);
  EXPECT_EQ(shape.micro_batches, 2);
  EXPECT_EQ(shape.sequences_per_rank, 6);
}

/// Problems of a layout of a model that is otherwise right.
std::vector<std::string> layout_problems(const RunConfig& layout, int ranks) {
  RunConfig c = layout;
  c.data.train = "x";
  std::vector<std::string> problems;
  validate(c, ranks, problems);
  return problems;
}

TEST(TrainConfig, TheBatchIsSharedByDataParallelRanksOnly) {
  RunConfig c;
  c.parallel.tp = 2;
  c.parallel.pp = 2;
  c.training.global_batch_size = 12;
  EXPECT_TRUE(layout_problems(c, 8).empty());
  EXPECT_EQ(batch_shape(c.training, 2).sequences_per_rank, 6);
  c.training.micro_batch_size = 4;
  EXPECT_TRUE(has(layout_problems(c, 8), "training.micro_batch_size = 4: must divide the 6"));
  c.training.global_batch_size = 13;
  EXPECT_TRUE(has(layout_problems(c, 8),
                  "training.global_batch_size = 13: must be a multiple of the 2 data parallel"));
}

TEST(TrainConfig, TensorParallelRanksMustGetEqualPartsOfEverything) {
  RunConfig c;
  c.parallel.tp = 2;
  c.model.vocab_size = 257;
  c.training.seq_len = 3;
  c.training.micro_batch_size = 1;
  c.model.capacity_factor = 1.5;
  const auto problems = layout_problems(c, 2);
  EXPECT_EQ(problems.size(), 3U);
  for (const char* what : {"a divisor of model.vocab_size = 257", "a divisor of the tokens of a",
                           "1 with model.capacity_factor > 0"}) {
    EXPECT_TRUE(has(problems, "parallel.tp = 2; allowed: " + std::string{what})) << what;
  }
}

TEST(TrainConfig, ExpertsMustFitTheirRanks) {
  RunConfig c;
  c.parallel.ep = 3;
  c.training.global_batch_size = 12;
  EXPECT_TRUE(has(layout_problems(c, 4), "parallel.ep = 3: must divide dp x tp = 4"));
  EXPECT_TRUE(has(layout_problems(c, 3), "parallel.ep = 3; allowed: a divisor of model.num_ex"));
  c.model.num_experts = 1;
  EXPECT_TRUE(has(layout_problems(c, 3), "parallel.ep = 3; allowed: 1 (the model has no experts)"));
}

TEST(TrainConfig, StagesMustFitTheLayersAndTheSchedule) {
  RunConfig c;  // four layers
  c.parallel.pp = 2;
  c.parallel.stages = "3,1";
  EXPECT_TRUE(layout_problems(c, 2).empty());
  for (const char* stages : {"2,3", "4", "2,x", "4,0"}) {
    c.parallel.stages = stages;
    EXPECT_TRUE(has(layout_problems(c, 2), "parallel.stages = " + c.parallel.stages)) << stages;
  }
  c.parallel.stages = "";
  c.parallel.pp = 8;
  EXPECT_TRUE(has(layout_problems(c, 8), "parallel.pp = 8; allowed: 1 to model.num_hidden"));
  c.parallel.pp = 1;
  c.parallel.chunks = 2;
  EXPECT_TRUE(has(layout_problems(c, 1), "parallel.chunks = 2: 1f1b has 1 chunk a rank"));
}

TEST(HostPlace, CoresAreSharedFairlyHoweverRanksAreBound) {
  EXPECT_EQ(fair_threads({"11111111"}, 0), 8);              // alone
  EXPECT_EQ(fair_threads({"11111111", "11111111"}, 1), 4);  // unbound
  EXPECT_EQ(fair_threads({"11110000", "00001111"}, 1), 4);  // bound to halves
  EXPECT_EQ(fair_threads({"1", "01"}, 0), 1);               // bound to a core each
  EXPECT_EQ(fair_threads({"11", "11", "11"}, 2), 1);        // more ranks than cores
}

TEST(Blend, NamesAndWeights) {
  const auto blend = parse_blend("data/a:0.7, data/b : 0.3");
  ASSERT_EQ(blend.size(), 2U);
  EXPECT_EQ(blend[0].folder, "data/a");
  EXPECT_DOUBLE_EQ(blend[1].weight, 0.3);
  EXPECT_EQ(parse_blend("only").front().weight, 1.0);
  for (const char* wrong : {"a:", "a:-1", "a,,b", "a:nan", ""}) {
    EXPECT_THROW((void)parse_blend(wrong), InputError) << wrong;
  }
}

}  // namespace
}  // namespace shoal::train
