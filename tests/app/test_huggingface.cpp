#include "shoal/train/huggingface.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/train/model_json.hpp"
#include "support/throws.hpp"

// Weights and logits are compared with transformers by scripts/reference/compare_transformers.py;
// here: what the two layouts can say to each other, and what they refuse.
namespace shoal::train {
namespace {

nn::ModelConfig qwen() {
  nn::ModelConfig model;
  model.vocab_size = 300;
  model.first_k_dense_replace = 1;
  model.rope_theta = 5e5;
  return model;
}

nn::ModelConfig glm() {
  nn::ModelConfig model = qwen();
  model.router = "sigmoid";
  model.n_shared_experts = 1;
  model.routed_scaling_factor = 2.5;
  model.router_aux_loss_coef = 0.0;
  model.router_bias_update_rate = 1e-3;
  return model;
}

std::string refusal(const nn::ModelConfig& model) {
  try {
    (void)to_huggingface(model);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

void expect_same_after_a_round_trip(const nn::ModelConfig& model) {
  const nn::ModelConfig back = from_huggingface(to_huggingface(model), "config.json");
  EXPECT_EQ(to_json(back), to_json(model));
}

TEST(HuggingFace, ASoftmaxRouterIsAQwen3Moe) {
  EXPECT_EQ(to_huggingface(qwen()).at("model_type"), "qwen3_moe");
  expect_same_after_a_round_trip(qwen());
}

TEST(HuggingFace, ASigmoidRouterIsAGlm4Moe) {
  EXPECT_EQ(to_huggingface(glm()).at("model_type"), "glm4_moe");
  expect_same_after_a_round_trip(glm());
}

TEST(HuggingFace, ADenseModelIsAQwen3) {
  nn::ModelConfig model = qwen();
  model.num_experts = 1;
  EXPECT_EQ(to_huggingface(model).at("model_type"), "qwen3");
}

TEST(HuggingFace, EveryReasonAgainstAnExportIsNamed) {
  nn::ModelConfig model = qwen();
  model.dynamic_heads.enabled = true;
  model.n_shared_experts = 1;
  model.capacity_factor = 1.25;
  const std::string text = refusal(model);
  for (const char* key : {"dynamic_heads", "n_shared_experts", "capacity_factor"}) {
    EXPECT_NE(text.find(key), std::string::npos) << key << " in: " << text;
  }
}

TEST(HuggingFace, AGlm4MoeNeedsItsSharedExpert) {
  nn::ModelConfig model = glm();
  model.n_shared_experts = 0;
  EXPECT_NE(refusal(model).find("n_shared_experts"), std::string::npos);
}

TEST(HuggingFace, ABiasedSoftmaxRouterIsRefused) {
  nn::ModelConfig model = qwen();
  model.router_bias_update_rate = 1e-3;
  EXPECT_NE(refusal(model).find("router_bias_update_rate"), std::string::npos);
}

TEST(HuggingFace, EveryReasonAgainstAnImportIsNamed) {
  io::Json config = to_huggingface(glm());
  config["n_group"] = 4;
  config["attention_bias"] = true;
  config["rope_parameters"]["partial_rotary_factor"] = 0.5;
  config.erase("partial_rotary_factor");
  for (const char* key : {"n_group", "attention_bias", "partial_rotary_factor"}) {
    EXPECT_TRUE(
        test::throws_with<InputError>([&] { (void)from_huggingface(config, "config.json"); }, key));
  }
}

TEST(HuggingFace, AnotherFamilyIsRefused) {
  io::Json config = to_huggingface(qwen());
  config["model_type"] = "mixtral";
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)from_huggingface(config, "config.json"); },
                                            "mixtral"));
}

TEST(HuggingFace, DenseLayersInTheMiddleAreRefused) {
  io::Json config = to_huggingface(qwen());
  config["mlp_only_layers"] = {0, 2};
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)from_huggingface(config, "config.json"); },
                                            "mlp_only_layers"));
}

}  // namespace
}  // namespace shoal::train
