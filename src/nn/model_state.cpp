#include "shoal/nn/model_state.hpp"

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

}  // namespace

std::vector<NamedView> ModelState::checkpointed() const {
  std::vector<NamedView> views;
  for (std::size_t i = 0; i < router_bias.size(); ++i) {
    if (router_bias[i].absent()) continue;
    const std::int64_t layer = first_layer + static_cast<std::int64_t>(i);
    views.push_back(
        {"layers." + std::to_string(layer) + ".mlp.gate.e_score_correction_bias", router_bias[i]});
  }
  return views;
}

ModelState make_model_state(const Exec& exec, const ModelConfig& config, const StageRange& range) {
  const auto take = [&](Shape shape) {
    return persistent(exec, shape, DType::f32, MemoryKind::state);
  };
  const Shape table{config.max_position_embeddings, config.head_dim / 2};
  ModelState state{.cos_PC = take(table), .sin_PC = take(table), .first_layer = range.first_layer};
  if (!exec.is_dry()) fill_rope_tables(exec, config, state);

  const std::int64_t E = config.num_experts;
  std::int64_t moe_layers = 0;
  for (std::int64_t n = range.first_layer; n < range.last_layer; ++n) {
    state.router_bias.emplace_back();
    if (!config.is_moe_layer(n)) continue;
    ++moe_layers;
    if (!config.has_router_bias()) continue;
    state.router_bias.back() = take({E});
    zero(exec, state.router_bias.back());
  }
  state.totals = take({1 + moe_layers * (E + kLedgerSums)});
  zero(exec, state.totals);
  state.loss_sum = state.totals.rows(0, 1);
  std::int64_t at = 1;
  for (std::int64_t n = range.first_layer; n < range.last_layer; ++n) {
    if (!config.is_moe_layer(n)) continue;
    state.ledger.push_back({.layer = n,
                            .count_E = state.totals.rows(at, E),
                            .sums = state.totals.rows(at + E, kLedgerSums)});
    at += E + kLedgerSums;
  }
  return state;
}

}  // namespace shoal::nn
