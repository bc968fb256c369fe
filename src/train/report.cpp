#include "train/report.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace shoal::train {
namespace {

std::size_t offset_in(const TensorView& totals, const TensorView& part) {
  return static_cast<std::size_t>(part.bytes_begin() - totals.bytes_begin()) / sizeof(float);
}

}  // namespace

ResultReader::ResultReader(RunConfig config, const BatchShape& shape, const nn::ModelState& state)
    : config_{std::move(config)}, shape_{shape}, loss_{offset_in(state.totals, state.loss_sum)} {
  for (const nn::RouterLedger& ledger : state.ledger) {
    layers_.push_back({.counts = offset_in(state.totals, ledger.count_E),
                       .sums = offset_in(state.totals, ledger.sums),
                       .has_bias = !state.bias_block.absent()});
  }
}

double ResultReader::sum_of(const StepResult& result, std::int64_t which) const {
  double sum = 0.0;
  for (const Layer& layer : layers_) {
    sum += static_cast<double>(result.totals[layer.sums + static_cast<std::size_t>(which)]);
  }
  return sum;
}

ResultReader::Numbers ResultReader::numbers(const StepResult& result, std::int64_t targets) const {
  const auto sequences = static_cast<double>(config_.training.global_batch_size);
  const double tokens = sequences * static_cast<double>(config_.training.seq_len);
  const auto micro = static_cast<double>(shape_.micro_batch);
  const double groups = config_.model.aux_loss_scope == "sequence" ? sequences : sequences / micro;
  Numbers n{
      .loss = static_cast<double>(result.totals[loss_]) /
              static_cast<double>(std::max<std::int64_t>(1, targets)),
      .aux_loss =
          config_.model.router_aux_loss_coef * sum_of(result, nn::RouterLedger::kAux) / groups,
      .z_loss = config_.model.router_z_loss_coef * sum_of(result, nn::RouterLedger::kZ) / tokens};
  const auto experts = static_cast<std::size_t>(config_.model.num_experts);
  for (const Layer& layer : layers_) {
    const auto* first = result.totals.data() + layer.counts;
    const double sum = std::accumulate(first, first + experts, 0.0);
    const double most = static_cast<double>(*std::max_element(first, first + experts));
    if (sum > 0.0) n.imbalance = std::max(n.imbalance, most * static_cast<double>(experts) / sum);
  }
  return n;
}

RouterShape ResultReader::router_shape() const {
  return {.layers = static_cast<std::int64_t>(layers_.size()),
          .experts = layers_.empty() ? 0 : config_.model.num_experts};
}

RouterRow ResultReader::router_row(const StepResult& result) const {
  const auto experts = static_cast<std::size_t>(config_.model.num_experts);
  const double tokens = static_cast<double>(config_.training.global_batch_size) *
                        static_cast<double>(config_.training.seq_len);
  const double slots = tokens * static_cast<double>(config_.model.num_experts_per_tok);
  RouterRow row;
  std::size_t bias = 0;
  for (const Layer& layer : layers_) {
    const auto counts = result.totals.begin() + static_cast<std::ptrdiff_t>(layer.counts);
    row.counts.insert(row.counts.end(), counts, counts + static_cast<std::ptrdiff_t>(experts));
    for (std::size_t e = 0; e < experts; ++e) {
      row.bias.push_back(layer.has_bias ? result.bias.at(bias++) : 0.0F);
    }
    const float* sums = result.totals.data() + layer.sums;
    row.entropy.push_back(
        static_cast<float>(static_cast<double>(sums[nn::RouterLedger::kEntropy]) / tokens));
    row.drop_rate.push_back(
        static_cast<float>(static_cast<double>(sums[nn::RouterLedger::kDropped]) / slots));
  }
  return row;
}

double peak_flops(const RunConfig& config, DeviceKind device) {
  if (config.metrics.peak_tflops > 0.0) return config.metrics.peak_tflops * 1e12;
  if (device == DeviceKind::cpu) return 0.0;
  // Dense peaks of the vendors' data sheets; fp32 outside the tensor cores.
  struct Known {
    const char* name;
    double half, single;
  };
  constexpr Known kKnown[] = {
      {"H200", 989e12, 67e12}, {"H100", 989e12, 67e12}, {"A100", 312e12, 19.5e12}};
  const std::string name = device_info(device).name;
  for (const Known& known : kKnown) {
    if (name.find(known.name) == std::string::npos) continue;
    return config.training.precision == "fp32" ? known.single : known.half;
  }
  return 0.0;
}

}  // namespace shoal::train
