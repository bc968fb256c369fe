// Which part of each parameter a rank holds, and which models can be cut so.
#include "shoal/nn/placement.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "harness.hpp"
#include "slices.hpp"

namespace shoal::nn::test {
namespace {

constexpr std::uint64_t kSeed = 3;

ModelConfig wide_config() {
  ModelConfig c = small_config();
  c.vocab_size = 40;
  c.num_attention_heads = 8;
  c.num_key_value_heads = 4;
  c.num_experts = 8;
  return c;
}

std::vector<float> start_of(const ParameterSpec& spec) {
  return initial_values(spec, kSeed, 0, local_shape(spec.slice).elements());
}

class PlacementOf : public ::testing::TestWithParam<int> {};

TEST_P(PlacementOf, EveryElementLivesOnceOrOnAllRanksWithItsInitialBits) {
  const int ranks = GetParam();
  const ModelConfig c = wide_config();
  const StageRange range = whole_model(c);
  const RankLayout whole_layout = make_layout(c, range);
  std::vector<RankLayout> layouts;
  for (int r = 0; r < ranks; ++r) {
    layouts.push_back(make_layout(c, std::span{&range, 1}, {ranks, r, ranks, r}));
  }
  for (const Parameter& p : whole_layout.parameters.parameters()) {
    const std::vector<float> expected = start_of(p.spec);
    std::vector<int> owners(expected.size(), 0);
    for (const RankLayout& layout : layouts) {
      const ParameterSpec& spec = layout.parameters.find(p.spec.name).spec;
      const std::vector<std::size_t> at = global_indices(spec);
      const std::vector<float> got = start_of(spec);
      ASSERT_EQ(got.size(), at.size()) << p.spec.name;
      for (std::size_t i = 0; i < at.size(); ++i) {
        ASSERT_EQ(got[i], expected[at[i]]) << p.spec.name << " " << i;
        ++owners[at[i]];
      }
      EXPECT_EQ(spec.replicas, p.spec.replicas) << p.spec.name;
    }
    const bool replicated = (p.spec.replicas & kTp) != 0U;
    EXPECT_EQ(owners, std::vector<int>(owners.size(), replicated ? ranks : 1)) << p.spec.name;
  }
}
INSTANTIATE_TEST_SUITE_P(Ranks, PlacementOf, ::testing::Values(1, 2, 4));

TEST(Placement, DealsKeyValueGroupsInTurnWithTheirQueries) {
  const ModelConfig c = wide_config();  // four groups of two query heads of eight
  const StageRange range = whole_model(c);
  const RankLayout layout = make_layout(c, std::span{&range, 1}, {.tp = 2, .tp_rank = 1});
  const auto slice = [&](const char* name) {
    return layout.parameters.find("layers.0.self_attn." + std::string{name}).spec.slice;
  };
  EXPECT_EQ(slice("k_proj")[0], (SliceDim{8, 16, 2, 8}));
  EXPECT_EQ(slice("v_proj")[0], (SliceDim{8, 16, 2, 8}));
  EXPECT_EQ(slice("q_proj")[0], (SliceDim{16, 32, 2, 16}));
  EXPECT_EQ(slice("o_proj")[1], (SliceDim{16, 32, 2, 16}));
  const LayerHandles& layer = layout.stages[0].layers[1];
  EXPECT_EQ(layout.parameters.fused(layer.qkv).shape, (Shape{32 + 2 * 16, 24}));
  EXPECT_EQ(layout.parameters.fused(layer.mlp_gate_up).shape, (Shape{12, 24}));
  EXPECT_EQ(layout.parameters.fused(layer.experts_gate_up).shape, (Shape{8, 24, 24}));
}

TEST(Placement, FusedSlicesInAStoreHoldTheirInitialValues) {
  const ModelConfig c = wide_config();
  const StageRange range = whole_model(c);
  const RankLayout layout =
      make_layout(c, std::span{&range, 1}, {.tp = 2, .tp_rank = 1, .ep = 4, .ep_rank = 2});
  Exec exec = make_exec(DeviceKind::cpu, 16);
  const ParameterStore store{exec, layout.parameters, DType::f32, false};
  initialise(exec, store, kSeed);
  for (const char* name : {"layers.1.mlp.experts.up_proj", "layers.0.self_attn.k_proj"}) {
    const Parameter& p = layout.parameters.find(name);
    const std::vector<float> flat = download_floats(exec, store.elem_values());
    const std::vector<float> expected = start_of(p.spec);
    for (std::int64_t k = 0; k < p.storage.elements(); ++k) {
      const std::int64_t at =
          p.storage.offset + k / p.storage.inner * p.storage.stride + k % p.storage.inner;
      ASSERT_EQ(flat[static_cast<std::size_t>(at)], expected[static_cast<std::size_t>(k)]) << name;
    }
  }
}

TEST(Placement, ChunksOfARankShareOneTiedTable) {
  ModelConfig c = wide_config();
  c.tie_word_embeddings = true;
  const StageRange first{.first_layer = 0, .last_layer = 1, .embedding = true, .head = false};
  const StageRange middle{.first_layer = 1, .last_layer = 2, .embedding = false, .head = false};
  const StageRange last{.first_layer = 2, .last_layer = 3, .embedding = false, .head = true};
  const std::vector<StageRange> ends{first, last}, front{first, middle};
  const RankLayout both = make_layout(c, ends, {});
  ASSERT_EQ(both.stages.size(), 2U);
  EXPECT_EQ(both.stages[0].embedding, both.stages[1].lm_head);
  EXPECT_TRUE(both.stages[0].head_writes_table);
  EXPECT_FALSE(both.parameters.find("embed_tokens").spec.replicas & kPp);
  EXPECT_EQ(std::count_if(both.parameters.parameters().begin(), both.parameters.parameters().end(),
                          [](const Parameter& p) { return p.spec.name == "embed_tokens"; }),
            1);
  const RankLayout one = make_layout(c, front, {});
  EXPECT_TRUE(one.parameters.find("embed_tokens").spec.replicas & kPp);
  EXPECT_FALSE(one.stages[0].head_writes_table);
}

std::string problems_of(const ModelConfig& config, const SplitDegrees& degrees) {
  std::vector<std::string> problems;
  validate_placement(config, degrees, problems);
  return std::accumulate(problems.begin(), problems.end(), std::string{},
                         [](std::string all, const std::string& p) { return all + p + "\n"; });
}

TEST(Placement, EveryReasonAgainstASplitIsNamed) {
  EXPECT_EQ(problems_of(wide_config(), {.tp = 4, .pp = 3, .ep = 8, .tokens = 64}), "");
  ModelConfig c = wide_config();
  c.vocab_size = 41;
  c.capacity_factor = 1.5;
  const std::string text = problems_of(c, {.tp = 8, .pp = 2, .ep = 3, .chunks = 2, .tokens = 12});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 8) << text;
  for (const char* part :
       {"parallel.tp = 8; allowed: a divisor of model.num_key_value_heads = 4",
        "a divisor of model.intermediate_size = 20",
        "a divisor of model.n_shared_experts * model.moe_intermediate_size = 12",
        "a divisor of model.vocab_size = 41", "a divisor of the tokens of a micro-batch",
        "1 with model.capacity_factor > 0",
        "parallel.ep = 3; allowed: a divisor of model.num_experts = 8",
        "parallel.pp = 2; allowed: 1 to model.num_hidden_layers / parallel.chunks = 3 / 2"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  c.num_experts = 1;
  EXPECT_NE(problems_of(c, {.ep = 2}).find("1 (the model has no experts)"), std::string::npos);
}

TEST(ModelState, IsLaidOutAlikeOnEveryStage) {
  ModelConfig c = wide_config();
  c.router = "sigmoid";
  Exec exec = make_exec(DeviceKind::cpu, 16);
  const StageRange back{.first_layer = 2, .last_layer = 3, .embedding = false};
  const ModelState all = make_model_state(exec, c);
  const ModelState part = make_model_state(exec, c, std::span{&back, 1});
  EXPECT_EQ(part.totals.shape(), all.totals.shape());
  ASSERT_EQ(part.ledger.size(), 2U);
  EXPECT_EQ(part.bias_block.shape(), (Shape{2, 8}));
  EXPECT_TRUE(part.router_bias[1].absent());
  ASSERT_EQ(part.checkpointed().size(), 1U);
  EXPECT_EQ(part.checkpointed()[0].name, "layers.2.mlp.gate.e_score_correction_bias");
  upload_values(exec, part.router_bias[2], std::vector<float>(8, 1.5F));
  std::vector<float> expected(16, 0.0F);
  std::fill(expected.begin() + 8, expected.end(), 1.5F);
  EXPECT_EQ(download_floats(exec, part.bias_block), expected);
}

}  // namespace
}  // namespace shoal::nn::test
