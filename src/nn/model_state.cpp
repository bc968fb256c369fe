#include "shoal/nn/model_state.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "shoal/tensor/tensor.hpp"

namespace shoal::nn {
namespace {

constexpr std::int64_t kLedgerSums = 4;

/// angle[p, i] = p * theta^(-2i/d), in double because p * theta^... loses digits in fp32.
void fill_rope_tables(const Exec& exec, const ModelConfig& config, const ModelState& state) {
  const std::int64_t P = config.max_position_embeddings, half = config.head_dim / 2;
  std::vector<float> cosine(static_cast<std::size_t>(P * half)), sine(cosine.size());
  for (std::int64_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    const double frequency = std::pow(config.rope_theta, exponent);
    for (std::int64_t p = 0; p < P; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      cosine[static_cast<std::size_t>(p * half + i)] = static_cast<float>(std::cos(angle));
      sine[static_cast<std::size_t>(p * half + i)] = static_cast<float>(std::sin(angle));
    }
  }
  upload_values(exec, state.cos_PC, cosine);
  upload_values(exec, state.sin_PC, sine);
}

/// Biases of the MoE layers; only those of `ranges` get a view.
void take_biases(const Exec& exec, const ModelConfig& config, std::span<const StageRange> ranges,
                 ModelState& state) {
  const auto moe_layers = static_cast<std::int64_t>(state.ledger.size());
  state.router_bias.resize(static_cast<std::size_t>(config.num_hidden_layers));
  if (!config.has_router_bias() || moe_layers == 0) return;
  state.bias_block =
      persistent(exec, {moe_layers, config.num_experts}, DType::f32, MemoryKind::state);
  zero(exec, state.bias_block);
  for (std::int64_t i = 0; i < moe_layers; ++i) {
    const std::int64_t layer = state.ledger[static_cast<std::size_t>(i)].layer;
    const bool here = std::any_of(ranges.begin(), ranges.end(), [&](const StageRange& range) {
      return layer >= range.first_layer && layer < range.last_layer;
    });
    if (!here) continue;
    state.router_bias[static_cast<std::size_t>(layer)] =
        state.bias_block.rows(i, 1).reshape({config.num_experts});
  }
}

/// The sums of a step: the loss, then each MoE layer's ledger.
void take_totals(const Exec& exec, const ModelConfig& config, ModelState& state) {
  const std::int64_t E = config.num_experts, stride = E + kLedgerSums;
  std::vector<std::int64_t> layers;
  for (std::int64_t n = 0; n < config.num_hidden_layers; ++n) {
    if (config.is_moe_layer(n)) layers.push_back(n);
  }
  state.totals = persistent(exec, {1 + static_cast<std::int64_t>(layers.size()) * stride},
                            DType::f32, MemoryKind::state);
  zero(exec, state.totals);
  state.loss_sum = state.totals.rows(0, 1);
  std::int64_t at = 1;
  for (const std::int64_t layer : layers) {
    state.ledger.push_back({.layer = layer,
                            .count_E = state.totals.rows(at, E),
                            .sums = state.totals.rows(at + E, kLedgerSums)});
    at += stride;
  }
}

}  // namespace

std::vector<NamedView> ModelState::checkpointed() const {
  std::vector<NamedView> views;
  for (std::size_t n = 0; n < router_bias.size(); ++n) {
    if (router_bias[n].absent()) continue;
    views.push_back(
        {"layers." + std::to_string(n) + ".mlp.gate.e_score_correction_bias", router_bias[n]});
  }
  return views;
}

ModelState make_model_state(const Exec& exec, const ModelConfig& config,
                            std::span<const StageRange> ranges) {
  const Shape table{config.max_position_embeddings, config.head_dim / 2};
  const auto take = [&] { return persistent(exec, table, DType::f32, MemoryKind::state); };
  ModelState state{.cos_PC = take(), .sin_PC = take()};
  if (!exec.is_dry()) fill_rope_tables(exec, config, state);
  take_totals(exec, config, state);
  take_biases(exec, config, ranges, state);
  return state;
}

ModelState make_model_state(const Exec& exec, const ModelConfig& config) {
  const StageRange range = whole_model(config);
  return make_model_state(exec, config, std::span{&range, 1});
}

}  // namespace shoal::nn
