#include "shoal/nn/model_config.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "shoal/nn/model_layout.hpp"

namespace shoal::nn {
namespace {

/// Collects problems of one section as "[section] key = value; allowed: ...".
class Checker {
 public:
  Checker(std::string section, std::vector<std::string>& problems)
      : section_{std::move(section)}, problems_{&problems} {}

  template <class Value>
  void check(bool good, const char* key, const Value& value, const std::string& allowed) {
    if (good) return;
    std::ostringstream text;
    text << section_ << "." << key << " = " << value << "; allowed: " << allowed;
    problems_->push_back(text.str());
  }
  void at_least(const char* key, std::int64_t value, std::int64_t least) {
    check(value >= least, key, value, "at least " + std::to_string(least));
  }
  void one_of(const char* key, const std::string& value, std::initializer_list<const char*> names) {
    std::string allowed;
    for (const char* name : names) allowed += (allowed.empty() ? "" : " | ") + std::string{name};
    check(std::any_of(names.begin(), names.end(), [&](const char* n) { return value == n; }), key,
          value, allowed);
  }
  void probability(const char* key, double value) {
    check(value >= 0.0 && value < 1.0, key, value, "0 <= p < 1");
  }
  void not_negative(const char* key, double value) {
    check(std::isfinite(value) && value >= 0.0, key, value, "a finite number >= 0");
  }
  void positive(const char* key, double value) {
    check(std::isfinite(value) && value > 0.0, key, value, "a finite number > 0");
  }

 private:
  std::string section_;
  std::vector<std::string>* problems_;
};

void check_sizes(const ModelConfig& c, Checker& k) {
  k.at_least("vocab_size", c.vocab_size, 0);
  k.at_least("hidden_size", c.hidden_size, 1);
  k.at_least("num_hidden_layers", c.num_hidden_layers, 1);
  k.at_least("num_attention_heads", c.num_attention_heads, 1);
  k.check(c.num_key_value_heads >= 1 && c.num_attention_heads % c.num_key_value_heads == 0,
          "num_key_value_heads", c.num_key_value_heads,
          "a divisor of num_attention_heads = " + std::to_string(c.num_attention_heads));
  k.check(c.head_dim >= 2 && c.head_dim % 2 == 0, "head_dim", c.head_dim, "an even number >= 2");
  k.at_least("max_position_embeddings", c.max_position_embeddings, 1);
  k.at_least("intermediate_size", c.intermediate_size, 1);
  k.check(c.first_k_dense_replace >= 0 && c.first_k_dense_replace <= c.num_hidden_layers,
          "first_k_dense_replace", c.first_k_dense_replace, "0 to num_hidden_layers");
}

void check_experts(const ModelConfig& c, Checker& k) {
  k.at_least("num_experts", c.num_experts, 1);
  k.check(
      c.num_experts_per_tok >= 1 && (c.num_experts == 1 || c.num_experts_per_tok <= c.num_experts),
      "num_experts_per_tok", c.num_experts_per_tok,
      "1 to num_experts = " + std::to_string(c.num_experts));
  k.at_least("moe_intermediate_size", c.moe_intermediate_size, 1);
  k.at_least("n_shared_experts", c.n_shared_experts, 0);
  k.one_of("router", c.router, {"softmax", "sigmoid"});
  k.positive("routed_scaling_factor", c.routed_scaling_factor);
  k.not_negative("capacity_factor", c.capacity_factor);
  k.not_negative("router_aux_loss_coef", c.router_aux_loss_coef);
  k.one_of("aux_loss_scope", c.aux_loss_scope, {"sequence", "micro_batch"});
  k.not_negative("router_z_loss_coef", c.router_z_loss_coef);
  k.not_negative("router_bias_update_rate", c.router_bias_update_rate);
}

void check_dynamic_heads(const DynamicHeadsConfig& c, std::vector<std::string>& problems) {
  Checker k{"attention", problems};
  k.check(c.gate_block == 64 || c.gate_block == 128, "gate_block", c.gate_block, "64 | 128");
  k.check(c.head_budget > 0.0 && c.head_budget <= 1.0, "head_budget", c.head_budget,
          "0 < budget <= 1");
  k.not_negative("head_budget_coef", c.head_budget_coef);
}

}  // namespace

void validate(const ModelConfig& c, std::vector<std::string>& problems) {
  Checker k{"model", problems};
  check_sizes(c, k);
  check_experts(c, k);
  k.positive("rope_theta", c.rope_theta);
  k.positive("rms_norm_eps", c.rms_norm_eps);
  k.probability("embedding_dropout", c.embedding_dropout);
  k.probability("attention_dropout", c.attention_dropout);
  k.probability("expert_dropout", c.expert_dropout);
  k.not_negative("initializer_range", c.initializer_range);
  check_dynamic_heads(c.dynamic_heads, problems);
}

void validate(const ComputeConfig& c, std::vector<std::string>& problems) {
  Checker k{"compute", problems};
  k.one_of("recompute_attention", c.recompute_attention, {"none", "selective", "full"});
  k.one_of("recompute_mlp", c.recompute_mlp, {"none", "selective", "full"});
  k.at_least("loss_chunk", c.loss_chunk, 1);
}

ModelSize model_size(const ModelConfig& c, std::int64_t sequence) {
  const RankLayout layout = make_layout(c, whole_model(c));
  ModelSize size;
  double products = 0.0;  // elements of matrices that one token meets
  for (const Parameter& p : layout.parameters.parameters()) {
    const std::int64_t elements = p.spec.shape.elements();
    const bool expert = p.spec.shape.rank() == 3;
    const bool lookup = p.spec.name == "embed_tokens" && !c.tie_word_embeddings;
    const std::int64_t active = lookup   ? 0
                                : expert ? elements / c.num_experts * c.num_experts_per_tok
                                         : elements;
    size.total += elements;
    size.active += active;
    if (p.spec.shape.rank() >= 2) products += static_cast<double>(active);
  }
  const double keys = static_cast<double>(sequence) / 2.0;
  const auto width = static_cast<double>(c.num_attention_heads * c.head_dim);
  const double attention = 4.0 * width * keys * static_cast<double>(c.num_hidden_layers);
  size.forward_flops_per_token = 2.0 * products + attention;
  return size;
}

}  // namespace shoal::nn
