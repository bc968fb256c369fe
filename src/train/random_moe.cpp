#include "train/random_moe.hpp"

#include "shoal/ops/elementwise.hpp"

namespace shoal::train {
namespace {

constexpr nn::StageRange kOneLayer{
    .first_layer = 0, .last_layer = 1, .embedding = false, .head = false};

nn::ModelConfig moe_layer_of(nn::ModelConfig model) {
  model.num_hidden_layers = 1;
  model.first_k_dense_replace = 0;
  return model;
}

std::optional<nn::Mlp> shared_expert(const nn::ParameterStore& store, const nn::LayerHandles& layer,
                                     nn::ShardGroup& group) {
  if (layer.mlp_gate_up == nn::kNoTensor) return std::nullopt;
  return nn::Mlp{store.weight(layer.mlp_gate_up), store.weight(layer.mlp_down), &group};
}

}  // namespace

RandomMoe::RandomMoe(const Exec& exec, const RunConfig& config)
    : config_{moe_layer_of(config.model)},
      layout_{nn::make_layout(config_, kOneLayer)},
      store_{exec, layout_.parameters, parse_precision(config.training.precision), true},
      state_{nn::make_model_state(exec, config_, {&kOneLayer, 1})},
      dispatcher_{config_.num_experts, config_.capacity_factor},
      ones_{persistent(exec, {1}, DType::f32, MemoryKind::state)},
      scalars_{.loss_grad_scale = ones_,
               .aux_scale = ones_,
               .z_scale = ones_,
               .budget_scale = ones_,
               .step_seed = {}},
      router_{config_, store_.weight(layout_.stages.front().layers.front().router),
              state_.router_bias.front(), &group_},
      layer_{{.router = router_,
              .experts =
                  nn::Experts{store_.weight(layout_.stages.front().layers.front().experts_gate_up),
                              store_.weight(layout_.stages.front().layers.front().experts_down)},
              .shared = shared_expert(store_, layout_.stages.front().layers.front(), group_),
              .dispatcher = &dispatcher_,
              .ledger = state_.ledger.front()}} {
  ops::fill(exec, ones_, 1.0F);
  if (!exec.is_dry())
    nn::initialise(exec, store_, static_cast<std::uint64_t>(config.training.seed));
}

}  // namespace shoal::train
