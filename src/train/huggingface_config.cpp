#include <string>
#include <vector>

#include "shoal/base/error.hpp"
#include "shoal/train/huggingface.hpp"

namespace shoal::train {
namespace {

using nn::ModelConfig;
using Problems = std::vector<std::string>;

/// The balance bias of an imported GLM-4-MoE goes on as in DeepSeek-V3 (arXiv:2412.19437).
constexpr double kImportedBiasRate = 1e-3;

bool is_dense(const ModelConfig& c) {
  return c.num_experts == 1 || c.first_k_dense_replace >= c.num_hidden_layers;
}
bool is_glm(const ModelConfig& c) {
  return !is_dense(c) && c.router == "sigmoid";
}

void throw_if_any(const Problems& problems, const std::string& head) {
  if (problems.empty()) return;
  std::string text = head;
  for (const auto& problem : problems) text += "\n  " + problem;
  throw InputError{text};
}

/// What neither family has a key for.
void check_expressible(const ModelConfig& c) {
  Problems problems;
  const auto refuse = [&](bool wrong, const char* reason) {
    if (wrong) problems.emplace_back(reason);
  };
  refuse(c.dynamic_heads.enabled,
         "model.dynamic_heads = true: transformers has no attention with gated groups of heads");
  if (!is_dense(c)) {
    refuse(c.capacity_factor > 0.0,
           "model.capacity_factor > 0: the layout drops no tokens, outputs would differ");
  }
  if (is_glm(c)) {
    refuse(c.n_shared_experts < 1,
           "model.n_shared_experts = 0: a GLM-4-MoE (router = sigmoid) always has a shared expert");
  } else {
    refuse(!c.use_qk_norm, "model.use_qk_norm = false: Qwen3 always norms queries and keys");
  }
  if (!is_dense(c) && !is_glm(c)) {
    refuse(c.n_shared_experts > 0,
           "model.n_shared_experts > 0: a Qwen3-MoE (router = softmax) has no shared expert");
    refuse(c.routed_scaling_factor != 1.0,
           "model.routed_scaling_factor != 1: a Qwen3-MoE (router = softmax) has no such factor");
    refuse(c.router_bias_update_rate > 0.0,
           "model.router_bias_update_rate > 0: a Qwen3-MoE (router = softmax) has no balance bias");
  }
  throw_if_any(problems, "this model cannot be exported in the Hugging Face layout:");
}

io::Json common_keys(const ModelConfig& c) {
  const io::Json rope = {{"rope_type", "default"}, {"rope_theta", c.rope_theta}};
  return {{"attention_bias", false},
          {"attention_dropout", 0.0},
          {"head_dim", c.head_dim},
          {"hidden_act", "silu"},
          {"hidden_size", c.hidden_size},
          {"initializer_range", c.initializer_range},
          {"intermediate_size", c.intermediate_size},
          {"max_position_embeddings", c.max_position_embeddings},
          {"num_attention_heads", c.num_attention_heads},
          {"num_hidden_layers", c.num_hidden_layers},
          {"num_key_value_heads", c.num_key_value_heads},
          {"rms_norm_eps", c.rms_norm_eps},
          {"rope_parameters", rope},
          {"rope_theta", c.rope_theta},  // transformers 4
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"use_cache", true},
          {"vocab_size", c.vocab_size}};
}

void add_expert_keys(const ModelConfig& c, io::Json& json) {
  json["moe_intermediate_size"] = c.moe_intermediate_size;
  json["norm_topk_prob"] = c.norm_topk_prob;
  json["num_experts_per_tok"] = c.num_experts_per_tok;
}

void add_glm_keys(const ModelConfig& c, io::Json& json) {
  json["architectures"] = {"Glm4MoeForCausalLM"};
  json["model_type"] = "glm4_moe";
  json["first_k_dense_replace"] = c.first_k_dense_replace;
  json["n_routed_experts"] = c.num_experts;
  json["n_shared_experts"] = c.n_shared_experts;
  json["n_group"] = 1;
  json["topk_group"] = 1;
  json["num_nextn_predict_layers"] = 0;
  json["routed_scaling_factor"] = c.routed_scaling_factor;
  json["use_qk_norm"] = c.use_qk_norm;
  json["rope_parameters"]["partial_rotary_factor"] = 1.0;
  json["partial_rotary_factor"] = 1.0;  // transformers 4
}

void add_qwen_moe_keys(const ModelConfig& c, io::Json& json) {
  json["architectures"] = {"Qwen3MoeForCausalLM"};
  json["model_type"] = "qwen3_moe";
  json["num_experts"] = c.num_experts;  // transformers 4; 5 renames it
  json["num_local_experts"] = c.num_experts;
  json["decoder_sparse_step"] = 1;
  json["router_aux_loss_coef"] = c.router_aux_loss_coef;
  json["mlp_only_layers"] = io::Json::array();
  for (std::int64_t n = 0; n < c.first_k_dense_replace; ++n) json["mlp_only_layers"].push_back(n);
}

/// Reads keys of a config.json and gathers everything that does not fit.
class Reader {
 public:
  Reader(const io::Json& json, std::string_view what) : json_{json}, what_{what} {}

  [[nodiscard]] bool has(std::string_view key) const {
    const auto found = json_.find(key);
    return found != json_.end() && !found->is_null();
  }
  template <class T>
  void take(std::string_view key, T& into) {
    try {
      into = io::get_field<T>(json_, key, what_);
    } catch (const InputError& error) {
      problems_.emplace_back(error.what());
    }
  }
  template <class T>
  void take_if_there(std::string_view key, T& into) {
    if (has(key)) take(key, into);
  }
  /// A key that this model does not have must hold the value that switches it off.
  template <class T>
  void demand(std::string_view key, const T& value, const char* reason) {
    if (!has(key) || json_.at(std::string{key}) == io::Json(value)) return;
    problems_.push_back(std::string{what_} + ": " + std::string{key} + " = " +
                        json_.at(std::string{key}).dump() + ": " + reason);
  }
  void refuse(const std::string& text) { problems_.push_back(std::string{what_} + ": " + text); }
  void finish() const { throw_if_any(problems_, "this model cannot be imported:"); }
  [[nodiscard]] const io::Json& json() const { return json_; }

 private:
  const io::Json& json_;
  std::string_view what_;
  Problems problems_;
};

void read_rope(Reader& in, ModelConfig& c, double default_partial) {
  double partial = default_partial;
  in.take_if_there("partial_rotary_factor", partial);
  in.take_if_there("rope_theta", c.rope_theta);
  std::string type = "default";
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!in.has(key)) continue;
    const io::Json& rope = in.json().at(key);
    type = io::get_field_or<std::string>(rope, "rope_type", type, key);
    c.rope_theta = io::get_field_or<double>(rope, "rope_theta", c.rope_theta, key);
    partial = io::get_field_or<double>(rope, "partial_rotary_factor", partial, key);
  }
  if (type != "default") in.refuse("rope_type = " + type + ": only the default is known here");
  if (partial != 1.0) in.refuse("partial_rotary_factor != 1: all of a head is rotated here");
}

void read_common(Reader& in, ModelConfig& c) {
  in.take("vocab_size", c.vocab_size);
  in.take("hidden_size", c.hidden_size);
  in.take("num_hidden_layers", c.num_hidden_layers);
  in.take("num_attention_heads", c.num_attention_heads);
  c.num_key_value_heads = c.num_attention_heads;
  in.take_if_there("num_key_value_heads", c.num_key_value_heads);
  c.head_dim = c.num_attention_heads > 0 ? c.hidden_size / c.num_attention_heads : 0;
  in.take_if_there("head_dim", c.head_dim);
  in.take("intermediate_size", c.intermediate_size);
  in.take("max_position_embeddings", c.max_position_embeddings);
  in.take("rms_norm_eps", c.rms_norm_eps);
  in.take_if_there("tie_word_embeddings", c.tie_word_embeddings);
  in.take_if_there("initializer_range", c.initializer_range);
  in.demand("attention_bias", false, "projections have no bias here");
  in.demand("hidden_act", "silu", "the activation is silu here");
  in.demand("use_sliding_window", false, "attention is full here");
}

void read_qwen_moe(Reader& in, ModelConfig& c) {
  c.router = "softmax";
  c.norm_topk_prob = false;
  in.take(in.has("num_local_experts") ? "num_local_experts" : "num_experts", c.num_experts);
  in.take("num_experts_per_tok", c.num_experts_per_tok);
  in.take("moe_intermediate_size", c.moe_intermediate_size);
  in.take_if_there("norm_topk_prob", c.norm_topk_prob);
  in.take_if_there("router_aux_loss_coef", c.router_aux_loss_coef);
  in.demand("decoder_sparse_step", 1, "every layer after the leading dense ones has experts here");
  std::vector<std::int64_t> dense;
  in.take_if_there("mlp_only_layers", dense);
  for (std::size_t i = 0; i < dense.size(); ++i) {
    if (dense[i] == static_cast<std::int64_t>(i)) continue;
    in.refuse("mlp_only_layers: dense layers must be the leading ones, 0, 1, ...");
    break;
  }
  c.first_k_dense_replace = static_cast<std::int64_t>(dense.size());
}

void read_glm(Reader& in, ModelConfig& c) {
  c.router = "sigmoid";
  in.take("n_routed_experts", c.num_experts);
  in.take("num_experts_per_tok", c.num_experts_per_tok);
  in.take("moe_intermediate_size", c.moe_intermediate_size);
  in.take("n_shared_experts", c.n_shared_experts);
  in.take("first_k_dense_replace", c.first_k_dense_replace);
  in.take_if_there("norm_topk_prob", c.norm_topk_prob);
  in.take_if_there("routed_scaling_factor", c.routed_scaling_factor);
  c.use_qk_norm = false;
  in.take_if_there("use_qk_norm", c.use_qk_norm);
  in.demand("n_group", 1, "experts form one group here");
  in.demand("topk_group", 1, "experts form one group here");
  c.router_aux_loss_coef = 0.0;
  c.router_bias_update_rate = kImportedBiasRate;
}

}  // namespace

io::Json to_huggingface(const ModelConfig& c) {
  check_expressible(c);
  io::Json json = common_keys(c);
  if (is_dense(c)) {
    json["architectures"] = {"Qwen3ForCausalLM"};
    json["model_type"] = "qwen3";
    return json;
  }
  add_expert_keys(c, json);
  is_glm(c) ? add_glm_keys(c, json) : add_qwen_moe_keys(c, json);
  return json;
}

ModelConfig from_huggingface(const io::Json& config, std::string_view what) {
  ModelConfig c;
  c.num_experts = 1;
  c.num_experts_per_tok = 1;
  c.router_aux_loss_coef = 0.0;
  Reader in{config, what};
  const auto type = io::get_field<std::string>(config, "model_type", what);
  read_common(in, c);
  read_rope(in, c, type == "glm4_moe" ? 0.5 : 1.0);
  if (type == "qwen3_moe") {
    read_qwen_moe(in, c);
  } else if (type == "glm4_moe") {
    read_glm(in, c);
  } else if (type != "qwen3") {
    in.refuse("model_type = " + type + ": allowed: qwen3_moe, glm4_moe, qwen3");
  }
  in.finish();
  return c;
}

}  // namespace shoal::train
