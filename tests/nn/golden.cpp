#include "golden.hpp"

namespace shoal::nn::test {

Golden::Golden(const std::string& name)
    : file_{io::H5File::open(std::string{SHOAL_GOLDEN_DIR} + "/" + name + ".h5")} {}

void Golden::read_experts(ModelConfig& c) const {
  c.num_experts = integer("num_experts");
  c.num_experts_per_tok = integer("num_experts_per_tok");
  c.moe_intermediate_size = integer("moe_intermediate_size");
  c.n_shared_experts = integer("n_shared_experts");
  c.router = text("router");
  c.norm_topk_prob = flag("norm_topk_prob");
  c.routed_scaling_factor = real("routed_scaling_factor");
  c.capacity_factor = real("capacity_factor");
  c.router_aux_loss_coef = real("router_aux_loss_coef");
  c.aux_loss_scope = text("aux_loss_scope");
  c.router_z_loss_coef = real("router_z_loss_coef");
}

ModelConfig Golden::config() const {
  ModelConfig c;
  c.vocab_size = integer("vocab_size");
  c.hidden_size = integer("hidden_size");
  c.num_hidden_layers = integer("num_hidden_layers");
  c.num_attention_heads = integer("num_attention_heads");
  c.num_key_value_heads = integer("num_key_value_heads");
  c.head_dim = integer("head_dim");
  c.max_position_embeddings = integer("max_position_embeddings");
  c.tie_word_embeddings = flag("tie_word_embeddings");
  c.intermediate_size = integer("intermediate_size");
  c.first_k_dense_replace = integer("first_k_dense_replace");
  c.use_qk_norm = flag("use_qk_norm");
  c.rope_theta = real("rope_theta");
  c.rms_norm_eps = real("rms_norm_eps");
  c.dynamic_heads = {.enabled = flag("dynamic_heads"),
                     .gate_block = integer("gate_block"),
                     .head_budget = real("head_budget"),
                     .head_budget_coef = real("head_budget_coef")};
  read_experts(c);
  return c;
}

HostBatch Golden::batch() const {
  return {.token = values<std::int32_t>("batch/token"),
          .target = values<std::int32_t>("batch/target"),
          .doc_start = values<std::int32_t>("batch/doc_start"),
          .position = values<std::int32_t>("batch/position"),
          .mask = values<std::uint8_t>("batch/mask"),
          .sequence = integer("sequence")};
}

Scales Golden::scales() const {
  const HostBatch host = batch();
  const bool per_sequence = text("aux_loss_scope") == "sequence";
  const auto sequences = static_cast<double>(integer("sequences"));
  const double groups = per_sequence ? sequences : 1.0;
  return {.loss = 1.0F / static_cast<float>(host.targets()),
          .aux = static_cast<float>(real("router_aux_loss_coef") / groups),
          .z = static_cast<float>(real("router_z_loss_coef") / static_cast<double>(host.tokens())),
          .budget = static_cast<float>(real("head_budget_coef") / sequences)};
}

GoldenModel::GoldenModel(Exec& exec, const Golden& golden, DType elem)
    : harness{exec, {.config = golden.config(), .elem = elem}} {
  for (const Parameter& p : harness.layout.parameters.parameters()) {
    harness.set(p.spec.name, golden.values<float>("parameter/" + p.spec.name));
  }
  for (const std::string& layer : golden.list("bias")) {
    upload_values(exec, harness.model.state().router_bias[std::stoul(layer)],
                  golden.values<float>("bias/" + layer));
  }
}

}  // namespace shoal::nn::test
