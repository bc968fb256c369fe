#include "train/memory_estimate.hpp"

#include <algorithm>

#include "train/update_cost.hpp"

namespace shoal::train {
namespace {

double as_double(std::int64_t value) {
  return static_cast<double>(value);
}

/// Kept elements of one layer's parts for one micro-batch.
class KeptElements {
 public:
  KeptElements(const RunConfig& config, std::int64_t micro_batch)
      : c_{config},
        tokens_{as_double(micro_batch * config.training.seq_len)},
        part_{tokens_ / config.parallel.tp},
        hidden_{as_double(config.model.hidden_size)} {}

  [[nodiscard]] double attention(const std::string& recompute) const {
    const nn::ModelConfig& m = c_.model;
    const double d = as_double(m.head_dim) / c_.parallel.tp;
    const double queries = as_double(m.num_attention_heads) * d;
    const double keys = as_double(m.num_key_value_heads) * d;
    const double streams = 2.0 * part_ * hidden_;  // input of the MLP's norm and the layer's output
    if (recompute == "full") return streams;
    const double kept = streams + tokens_ * (2.0 * queries + 2.0 * keys);
    return recompute == "selective" ? kept
                                    : kept + tokens_ * (queries + keys) + 2.0 * part_ * hidden_;
  }
  [[nodiscard]] double dense(const std::string& recompute, double width) const {
    if (recompute == "full") return 0.0;
    return tokens_ * width / c_.parallel.tp * (recompute == "selective" ? 2.0 : 3.0);
  }
  [[nodiscard]] double experts(const std::string& recompute) const {
    const double width = as_double(c_.model.moe_intermediate_size);
    if (recompute == "full") return 0.0;
    return most_rows() * (recompute == "selective" ? 2.0 * width : 2.0 * width + hidden_);
  }
  [[nodiscard]] double layer(std::int64_t index, const std::string& attention_mode,
                             const std::string& mlp_mode) const {
    const nn::ModelConfig& m = c_.model;
    double kept = attention(attention_mode);
    if (!m.is_moe_layer(index)) return kept + dense(mlp_mode, as_double(m.intermediate_size));
    kept += experts(mlp_mode);
    return kept + dense(mlp_mode, as_double(m.n_shared_experts * m.moe_intermediate_size));
  }
  [[nodiscard]] double tokens() const { return tokens_; }

 private:
  /// Rows that this rank's experts must have room for.
  [[nodiscard]] double most_rows() const {
    const double even = part_ * as_double(c_.model.num_experts_per_tok);
    const double ep = c_.parallel.ep;
    const double local = as_double(c_.model.num_experts) / ep;
    const double worst = part_ * ep * std::min(as_double(c_.model.num_experts_per_tok), local);
    const double factor = c_.parallel.ep_buffer_factor;
    return factor > 0.0 ? std::min(worst, factor * even) : worst;
  }

  const RunConfig& c_;
  double tokens_, part_, hidden_;
};

}  // namespace

double micro_batches_in_flight(const parallel::ParallelConfig& config, std::int64_t micro_batches) {
  const double all = as_double(micro_batches);
  const double stages = config.pp;
  if (config.pp == 1) return 1.0;
  if (config.schedule == "gpipe") return all;
  if (config.schedule == "interleaved") {
    const double chunks = config.chunks;
    return std::min(all, (chunks * stages + stages - 1.0) / chunks);
  }
  return std::min(all, stages);
}

double estimate_memory(const RunConfig& config, int ranks,
                       const std::vector<nn::StageRange>& chunks) {
  const parallel::ParallelConfig& p = config.parallel;
  const auto elem = as_double(size_of(parse_precision(config.training.precision)));
  const BatchShape shape = batch_shape(config.training, ranks / (p.tp * p.pp));
  const KeptElements kept{config, shape.micro_batch};
  const Replicas replicas = replicas_of(p, ranks);
  const pipeline::ScheduleShape schedule{.kind = pipeline::schedule_from_name(p.schedule),
                                         .stages = p.pp,
                                         .micro_batches = 1,
                                         .chunks = p.chunks};
  const auto held = held_parameters(config, chunks);
  std::vector<double> saved(held.size());
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const auto rank =
        static_cast<std::size_t>(pipeline::place_of(schedule, static_cast<int>(i)).rank);
    for (std::int64_t l = chunks[i].first_layer; l < chunks[i].last_layer; ++l) {
      saved[rank] +=
          kept.layer(l, config.compute.recompute_attention, config.compute.recompute_mlp);
    }
  }
  const double flight = micro_batches_in_flight(p, shape.micro_batches);
  const std::int64_t last = config.model.num_hidden_layers - 1;
  // One layer's gradients and what is computed again, and a chunk of logits.
  const double scratch = 2.0 * kept.layer(last, "none", "none") +
                         as_double(std::min<std::int64_t>(
                             config.compute.loss_chunk, static_cast<std::int64_t>(kept.tokens()))) *
                             as_double(config.model.vocab_size) / p.tp;
  double most = 0.0;
  for (std::size_t r = 0; r < held.size(); ++r) {
    const double parameters = held[r].total() * (elem + sizeof(float));
    most = std::max(most, parameters + state_bytes(config, held[r], replicas) +
                              elem * (saved[r] * flight + scratch));
  }
  return most;
}

}  // namespace shoal::train
