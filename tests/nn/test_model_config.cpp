#include "shoal/nn/model_config.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "harness.hpp"

namespace shoal::nn::test {
namespace {

std::string problems_of(const ModelConfig& config) {
  std::vector<std::string> problems;
  validate(config, problems);
  return std::accumulate(problems.begin(), problems.end(), std::string{},
                         [](std::string all, const std::string& p) { return all + p + "\n"; });
}

TEST(ModelConfig, DefaultsAndTheSmallModelAreValid) {
  EXPECT_EQ(problems_of({}), "");
  EXPECT_EQ(problems_of(small_config()), "");
}

TEST(ModelConfig, EveryProblemIsNamedAtOnceWithWhatIsAllowed) {
  ModelConfig c;
  c.head_dim = 7;
  c.num_key_value_heads = 3;
  c.num_experts_per_tok = 9;
  c.router = "soft";
  c.aux_loss_scope = "step";
  c.expert_dropout = 1.0;
  c.rope_theta = 0.0;
  c.dynamic_heads.gate_block = 32;
  const std::string text = problems_of(c);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 8) << text;
  for (const char* part :
       {"head_dim = 7; allowed: an even number", "num_key_value_heads = 3; allowed: a divisor",
        "num_experts_per_tok = 9; allowed: 1 to num_experts = 8",
        "router = soft; allowed: softmax | sigmoid", "aux_loss_scope = step",
        "expert_dropout = 1; allowed: 0 <= p < 1", "rope_theta = 0", "gate_block = 32"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(ModelSize, CountsWhatATokenTouches) {
  ModelConfig c = small_config();
  const ModelSize size = model_size(c, 100);
  const std::int64_t D = 24, expert = 3 * 12 * D, attention = (8 * 8 + 4 * 8) * D + 16;
  const std::int64_t layer = attention + 2 * D, moe = 5 * D + expert;  // router, shared expert
  const std::int64_t rest = 3 * layer + 3 * 20 * D + 2 * moe + D;
  EXPECT_EQ(size.total, rest + 2 * 5 * expert + 2 * 37 * D);
  EXPECT_EQ(size.active, rest + 2 * 2 * expert + 37 * D) << "the embedding is looked up";
  const std::int64_t small = 3 * (16 + 2 * D) + D;  // gains: no matrix product
  EXPECT_DOUBLE_EQ(size.forward_flops_per_token,
                   2.0 * static_cast<double>(size.active - small) + 3 * 4.0 * 32 * 50);
  c.tie_word_embeddings = true;
  EXPECT_EQ(model_size(c, 100).total, size.total - 37 * D);
  EXPECT_EQ(model_size(c, 100).active, size.active);
}

TEST(ModelLayout, StagesHoldEachParameterOnceAndATiedTableTwice) {
  ModelConfig c = small_config();
  c.tie_word_embeddings = true;
  const RankLayout all = make_layout(c, whole_model(c));
  const RankLayout front = make_layout(c, {.first_layer = 0, .last_layer = 1, .head = false});
  const RankLayout back = make_layout(c, {.first_layer = 1, .last_layer = 3, .embedding = false});
  EXPECT_EQ(front.parameters.parameters().size() + back.parameters.parameters().size(),
            all.parameters.parameters().size() + 1);
  EXPECT_TRUE(back.parameters.find("embed_tokens").spec.replicas & kPp);
  EXPECT_FALSE(all.parameters.find("embed_tokens").spec.replicas & kPp);
  EXPECT_EQ(back.stages[0].lm_head, back.stages[0].embedding);
  EXPECT_EQ(initial_values(back.parameters.find("layers.2.mlp.experts.up_proj").spec, 3, 0, 50),
            initial_values(all.parameters.find("layers.2.mlp.experts.up_proj").spec, 3, 0, 50));
}

TEST(ModelLayout, EveryMatrixHasItsOwnRandomStream) {
  const RankLayout all = make_layout(small_config(), whole_model(small_config()));
  std::vector<std::uint32_t> streams;
  for (const Parameter& p : all.parameters.parameters()) {
    if (p.spec.init.kind == Initializer::Kind::normal) streams.push_back(p.spec.stream);
  }
  std::sort(streams.begin(), streams.end());
  EXPECT_EQ(std::adjacent_find(streams.begin(), streams.end()), streams.end());
}

}  // namespace
}  // namespace shoal::nn::test
