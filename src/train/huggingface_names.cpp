#include "train/huggingface_names.hpp"

namespace shoal::train {
namespace {

/// "layers.3.self_attn.q_proj" -> "model.layers.3.self_attn.q_proj.weight"
std::string whole_tensor_name(const std::string& parameter) {
  return (parameter == "lm_head" ? "" : "model.") + parameter + ".weight";
}

/// Ours is one tensor [E, rows, columns] a projection, theirs is one tensor an expert.
void add_experts(const nn::ParameterSpec& spec, std::vector<ExchangeTensor>& out) {
  const auto cut = spec.name.rfind('.');
  const std::string head = "model." + spec.name.substr(0, cut + 1);
  for (std::int64_t e = 0; e < spec.shape[0]; ++e) {
    out.push_back({.name = head + std::to_string(e) + spec.name.substr(cut) + ".weight",
                   .parameter = spec.name,
                   .shape = {spec.shape[1], spec.shape[2]},
                   .first_row = e * spec.shape[1]});
  }
}

}  // namespace

std::vector<ExchangeTensor> exchange_tensors(const nn::ModelConfig& model,
                                             const nn::ParameterLayout& layout) {
  std::vector<ExchangeTensor> out;
  for (const nn::Parameter& parameter : layout.parameters()) {
    const nn::ParameterSpec& spec = parameter.spec;
    if (spec.shape.rank() == 3) {
      add_experts(spec, out);
    } else {
      out.push_back(
          {.name = whole_tensor_name(spec.name), .parameter = spec.name, .shape = spec.shape});
    }
  }
  for (std::int64_t n = 0; n < model.num_hidden_layers; ++n) {
    if (model.router != "sigmoid" || !model.is_moe_layer(n)) continue;
    const std::string name = "layers." + std::to_string(n) + ".mlp.gate.e_score_correction_bias";
    out.push_back({.name = "model." + name,
                   .parameter = name,
                   .shape = {model.num_experts},
                   .is_router_bias = true});
  }
  return out;
}

}  // namespace shoal::train
