#pragma once
#include "shoal/train/cost_model.hpp"

/// What the tests of the planner share: models in bf16 and a cluster of published speed.
namespace shoal::test {

struct PlannedSizes {
  std::int64_t vocabulary, hidden, layers, heads, groups, head_dim;
  std::int64_t experts, per_token, expert_width;
  std::int64_t sequence, batch;
};
[[nodiscard]] inline train::RunConfig planned_run(const PlannedSizes& s) {
  train::RunConfig c;
  c.model.vocab_size = s.vocabulary;
  c.model.hidden_size = s.hidden;
  c.model.num_hidden_layers = s.layers;
  c.model.num_attention_heads = s.heads;
  c.model.num_key_value_heads = s.groups;
  c.model.head_dim = s.head_dim;
  c.model.num_experts = s.experts;
  c.model.num_experts_per_tok = s.per_token;
  c.model.moe_intermediate_size = s.expert_width;
  c.training.seq_len = s.sequence;
  c.training.global_batch_size = s.batch;
  c.training.precision = "bf16";
  return c;
}

[[nodiscard]] inline train::CostModel published_model(int per_node = 8) {
  return train::CostModel{train::published_calibration(80.0, "bf16"), per_node};
}

}  // namespace shoal::test
