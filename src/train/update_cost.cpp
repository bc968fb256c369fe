#include "train/update_cost.hpp"

#include <algorithm>
#include <array>

#include "shoal/pipeline/schedule.hpp"

namespace shoal::train {
namespace {

/// f32 states of an optimizer kind: m and u (which may be bf16), and v.
struct StateCount {
  double moments = 0.0, squares = 0.0;
};

StateCount states_of(const std::string& kind) {
  if (kind == "adamw") return {1.0, 1.0};
  if (kind == "amf-nesterov") return {1.0, 1.0};
  if (kind == "sgd") return {1.0, 0.0};
  return {2.0, 1.0};
}

/// Bytes of states of one parameter.
double states_bytes(const RunConfig& config) {
  const StateCount count = states_of(config.optim.kind);
  return count.moments * (config.optim.state_dtype == "bf16" ? 2.0 : 4.0) + count.squares * 4.0;
}

/// Weight and what restores its fp32 master: read and written by the update.
double master_bytes(const RunConfig& config) {
  return config.training.precision == "fp16" ? 6.0 : 4.0;
}

/// Parameters whose update this rank computes.
double updated(const RunConfig& config, const HeldParameters& held, const Replicas& replicas) {
  if (!config.parallel.zero) return held.total();
  return held.dense / replicas.dense.size + held.replicated / replicas.replicated.size +
         held.experts / replicas.experts.size;
}

HeldParameters parameters_of(const nn::ModelConfig& model, const nn::StageRange& range,
                             const parallel::ParallelConfig& parallel) {
  HeldParameters held;
  const nn::RankLayout layout = nn::make_layout(model, range);
  for (const nn::Parameter& p : layout.parameters.parameters()) {
    const auto elements = static_cast<double>(p.spec.shape.elements());
    if ((p.spec.replicas & nn::kEdp) != 0) {
      held.experts += elements / parallel.ep;
    } else if ((p.spec.replicas & nn::kTp) != 0) {
      held.replicated += elements;
      if (p.spec.keep_f32) held.wide += elements;
    } else {
      held.dense += elements / parallel.tp;
    }
  }
  return held;
}

void add(HeldParameters& sum, const HeldParameters& part, double times) {
  sum.dense += times * part.dense;
  sum.replicated += times * part.replicated;
  sum.wide += times * part.wide;
  sum.experts += times * part.experts;
}

}  // namespace

Replicas replicas_of(const parallel::ParallelConfig& config, int ranks) {
  const int stage = ranks / config.pp;
  return {.dense = {.size = stage / config.tp, .stride = config.tp},
          .replicated = {.size = stage, .stride = 1},
          .experts = {.size = stage / config.ep, .stride = config.ep}};
}

std::vector<HeldParameters> held_parameters(const RunConfig& config,
                                            const std::vector<nn::StageRange>& chunks) {
  const nn::ModelConfig& model = config.model;
  const auto part = [&](const nn::StageRange& range) {
    return parameters_of(model, range, config.parallel);
  };
  // Layers of a kind are alike: two layouts tell the sizes of all.
  const std::int64_t leading =
      model.num_experts > 1 ? model.first_k_dense_replace : model.num_hidden_layers;
  HeldParameters dense, moe;
  if (leading > 0) dense = part({0, 1, false, false});
  if (leading < model.num_hidden_layers) moe = part({leading, leading + 1, false, false});
  const pipeline::ScheduleShape shape{
      .kind = pipeline::schedule_from_name(config.parallel.schedule),
      .stages = config.parallel.pp,
      .micro_batches = 1,
      .chunks = config.parallel.chunks};
  std::vector<HeldParameters> held(static_cast<std::size_t>(config.parallel.pp));
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const nn::StageRange& c = chunks[i];
    HeldParameters& rank =
        held[static_cast<std::size_t>(pipeline::place_of(shape, static_cast<int>(i)).rank)];
    const std::int64_t border = std::clamp(leading, c.first_layer, c.last_layer);
    add(rank, dense, static_cast<double>(border - c.first_layer));
    add(rank, moe, static_cast<double>(c.last_layer - border));
    if (c.embedding || c.head) add(rank, part({0, 0, c.embedding, c.head}), 1.0);
  }
  return held;
}

double state_bytes(const RunConfig& config, const HeldParameters& held, const Replicas& replicas) {
  const double beside = config.training.precision == "fp32"   ? 0.0
                        : config.training.precision == "bf16" ? 2.0
                                                              : 4.0;
  return updated(config, held, replicas) * (states_bytes(config) + beside);
}

UpdateCost update_cost(const RunConfig& config, const HeldParameters& held,
                       const Replicas& replicas, const Calibration& calibration,
                       const NetworkCost& network) {
  UpdateCost cost;
  const double gradient = config.parallel.grad_reduce == "bf16" ? 2.0 : 4.0;
  const double weight = static_cast<double>(size_of(parse_precision(config.training.precision)));
  struct Part {
    GroupShape group;
    double count;
    double weight_bytes;
  };
  const double replicated = held.replicated * weight + held.wide * (sizeof(float) - weight);
  for (const Part& part : {Part{replicas.dense, held.dense, held.dense * weight},
                           Part{replicas.replicated, held.replicated, replicated},
                           Part{replicas.experts, held.experts, held.experts * weight}}) {
    if (part.count == 0.0) continue;
    if (config.parallel.zero) {
      cost.reduce_s += network.reduce_scatter(part.group, part.count * gradient) +
                       network.all_gather(part.group, part.weight_bytes);
      cost.sent.dp += ring_gather_bytes(part.group.size, part.count * gradient + part.weight_bytes);
    } else {
      cost.reduce_s += network.all_reduce(part.group, part.count * gradient);
      cost.sent.dp += ring_all_reduce_bytes(part.group.size, part.count * gradient);
    }
  }
  constexpr double kNormPass = 4.0;
  const double bytes = 2.0 * (states_bytes(config) + master_bytes(config)) + 4.0 + kNormPass;
  cost.optimizer_s = calibration.compute.launch_s + updated(config, held, replicas) * bytes /
                                                        calibration.compute.optimizer_bytes_per_s;
  return cost;
}

}  // namespace shoal::train
