#include "train/layer_cost.hpp"

#include <algorithm>

namespace shoal::train {
namespace {

constexpr double kFloat = sizeof(float);

double as_double(std::int64_t value) {
  return static_cast<double>(value);
}

std::int64_t micro_batch(const RunConfig& c) {
  return std::max<std::int64_t>(1, c.training.micro_batch_size);
}

}  // namespace

LayerCost::LayerCost(const RunConfig& config, const Calibration& calibration,
                     const NetworkCost& network)
    : config_{&config},
      rates_{&calibration.compute},
      network_{&network},
      elem_{as_double(size_of(parse_precision(config.training.precision)))},
      tokens_{as_double(micro_batch(config) * config.training.seq_len)},
      part_{tokens_ / config.parallel.tp},
      hidden_{as_double(config.model.hidden_size)} {
  if (config.model.num_experts <= 1) return;
  rows_ = part_ * as_double(config.model.num_experts_per_tok);
  local_experts_ = as_double(config.model.num_experts) / config.parallel.ep;
}

double LayerCost::pass(double bytes, double bytes_per_s) const {
  return rates_->launch_s + bytes / bytes_per_s;
}

double LayerCost::norm(double rows, double passes) const {
  return pass(passes * rows * hidden_ * elem_, rates_->norm_bytes_per_s);
}

double LayerCost::dense(double m, double n, double k) const {
  return rates_->dense.seconds(m, n, k, elem_);
}

double LayerCost::grouped(double n, double k, double weight_bytes) const {
  const MatmulRate& r = rates_->grouped;
  return r.launch_s + 2.0 * rows_ * n * k / r.flops_per_s +
         (elem_ * rows_ * (n + k) + weight_bytes * local_experts_ * n * k) / r.bytes_per_s;
}

void LayerCost::tensor_group(double& seconds, AxisTraffic& sent, int times) const {
  const int tp = config_->parallel.tp;
  const double whole = tokens_ * hidden_ * elem_;
  seconds += times * network_->all_gather({.size = tp, .stride = 1}, whole);
  sent.tp += times * ring_gather_bytes(tp, whole);
}

void LayerCost::tensor_all_reduce(double& seconds, AxisTraffic& sent, double bytes) const {
  const int tp = config_->parallel.tp;
  seconds += network_->all_reduce({.size = tp, .stride = 1}, bytes);
  sent.tp += ring_all_reduce_bytes(tp, bytes);
}

void LayerCost::exchange(double& seconds, AxisTraffic& sent) const {
  const int ep = config_->parallel.ep;
  if (ep <= 1) return;
  const double copies = expected_destinations(ep, config_->model.num_experts_per_tok);
  const double bytes = part_ * hidden_ * elem_ * copies * (ep - 1) / ep;
  seconds += network_->all_to_all({.size = ep, .stride = 1}, bytes);
  sent.ep += bytes;
}

void LayerCost::attention(ChunkWork& work) const {
  const nn::ModelConfig& m = config_->model;
  const double tp = config_->parallel.tp;
  const double heads = as_double(m.num_attention_heads) / tp;
  const double groups = as_double(m.num_key_value_heads) / tp;
  const double d = as_double(m.head_dim);
  const double columns = (heads + 2.0 * groups) * d;
  const double keys = (as_double(config_->training.seq_len) + 1.0) / 2.0;
  const double scores = 4.0 * heads * d * tokens_ * keys;
  const double rotate =
      pass(2.0 * tokens_ * (heads + groups) * d * elem_, rates_->norm_bytes_per_s);
  pipeline::ChunkCost& s = work.seconds;
  const bool selective = config_->compute.recompute_attention == "selective";
  const bool full = config_->compute.recompute_attention == "full";

  double projected = norm(part_, 2) + dense(tokens_, columns, hidden_) + rotate;
  projected += scores / rates_->attention_forward_flops_per_s;
  tensor_group(s.forward, work.sent, 2);
  s.forward += projected + dense(tokens_, hidden_, heads * d) + norm(part_, 4);

  tensor_group(s.backward_input, work.sent, 2 + (full ? 1 : 0));
  s.backward_input += dense(tokens_, heads * d, hidden_) + dense(tokens_, hidden_, columns) +
                      2.5 * scores / rates_->attention_backward_flops_per_s + 1.5 * rotate +
                      norm(part_, 7);
  if (full) s.backward_input += projected;
  if (selective) s.backward_input += norm(part_, 4) + rotate;

  tensor_group(s.backward_weight, work.sent, 2);
  s.backward_weight += dense(hidden_, heads * d, tokens_) + dense(columns, hidden_, tokens_);
}

void LayerCost::dense_mlp(ChunkWork& work, double width, bool recompute_none,
                          bool recompute_full) const {
  const double local = width / config_->parallel.tp;
  const double activate = pass(3.0 * tokens_ * local * elem_, rates_->swiglu_bytes_per_s);
  pipeline::ChunkCost& s = work.seconds;
  tensor_group(s.forward, work.sent, 2);
  s.forward += dense(tokens_, 2.0 * local, hidden_) + activate + dense(tokens_, hidden_, local);

  tensor_group(s.backward_input, work.sent, 2 + (recompute_full ? 1 : 0));
  s.backward_input +=
      dense(tokens_, local, hidden_) + activate * 5.0 / 3.0 + dense(tokens_, hidden_, 2.0 * local);
  if (recompute_full) s.backward_input += dense(tokens_, 2.0 * local, hidden_) + activate;

  tensor_group(s.backward_weight, work.sent, 2);
  s.backward_weight += dense(2.0 * local, hidden_, tokens_) + dense(hidden_, local, tokens_);
  if (!recompute_none && !recompute_full) s.backward_weight += activate;
}

void LayerCost::experts(ChunkWork& work) const {
  const nn::ModelConfig& m = config_->model;
  const double width = as_double(m.moe_intermediate_size);
  const double all = as_double(m.num_experts);
  const bool none = config_->compute.recompute_mlp == "none";
  const bool full = config_->compute.recompute_mlp == "full";
  const double row = rows_ * hidden_ * elem_;
  const double gather = pass(2.0 * row, rates_->permute_bytes_per_s);
  const double combine = pass(row + 2.0 * part_ * hidden_ * elem_, rates_->permute_bytes_per_s);
  const double activate = pass(3.0 * rows_ * width * elem_, rates_->swiglu_bytes_per_s);
  const double route = rates_->dense.seconds(part_, all, hidden_, kFloat) +
                       pass(6.0 * part_ * all * kFloat, rates_->norm_bytes_per_s) +
                       4.0 * rates_->launch_s;
  const double products =
      grouped(2.0 * width, hidden_, elem_) + activate + grouped(hidden_, width, elem_);
  pipeline::ChunkCost& s = work.seconds;

  s.forward += route + gather + products + combine;
  exchange(s.forward, work.sent);
  exchange(s.forward, work.sent);

  s.backward_input += gather + combine + grouped(width, hidden_, elem_) + activate * 2.0 +
                      grouped(hidden_, 2.0 * width, elem_) + route;
  exchange(s.backward_input, work.sent);
  exchange(s.backward_input, work.sent);
  if (full) {
    s.backward_input += route + gather + products;
    exchange(s.backward_input, work.sent);
  }

  s.backward_weight += grouped(2.0 * width, hidden_, kFloat) + grouped(hidden_, width, kFloat) +
                       rates_->dense.seconds(all, hidden_, part_, kFloat);
  if (!none && !full) {
    s.backward_weight += gather;
    exchange(s.backward_weight, work.sent);
  }
}

ChunkWork LayerCost::layer(std::int64_t index) const {
  const nn::ModelConfig& m = config_->model;
  const bool none = config_->compute.recompute_mlp == "none";
  const bool full = config_->compute.recompute_mlp == "full";
  ChunkWork work;
  attention(work);
  if (!m.is_moe_layer(index)) {
    dense_mlp(work, as_double(m.intermediate_size), none, full);
    return work;
  }
  experts(work);
  if (m.n_shared_experts > 0) {
    dense_mlp(work, as_double(m.n_shared_experts * m.moe_intermediate_size), none, full);
  }
  return work;
}

ChunkWork LayerCost::embedding() const {
  const double vocabulary = as_double(config_->model.vocab_size) / config_->parallel.tp;
  ChunkWork work;
  tensor_group(work.seconds.forward, work.sent, 1);
  work.seconds.forward += pass(2.0 * tokens_ * hidden_ * elem_, rates_->permute_bytes_per_s);
  tensor_group(work.seconds.backward_weight, work.sent, 1);
  work.seconds.backward_weight +=
      pass(tokens_ * hidden_ * elem_ + vocabulary * hidden_ * kFloat, rates_->permute_bytes_per_s);
  return work;
}

ChunkWork LayerCost::head() const {
  const double vocabulary = as_double(config_->model.vocab_size) / config_->parallel.tp;
  const double chunk = std::min(tokens_, as_double(config_->compute.loss_chunk));
  const double chunks = tokens_ / chunk;
  ChunkWork work;
  double& seconds = work.seconds.backward_input;
  seconds += norm(part_, 7);
  tensor_group(seconds, work.sent, 2);
  tensor_all_reduce(seconds, work.sent, 3.0 * tokens_ * kFloat);
  seconds += chunks * (dense(chunk, vocabulary, hidden_) + dense(chunk, hidden_, vocabulary) +
                       dense(vocabulary, hidden_, chunk) +
                       pass(2.0 * chunk * vocabulary * elem_, rates_->cross_entropy_bytes_per_s));
  return work;
}

ChunkWork LayerCost::chunk(const nn::StageRange& range) const {
  ChunkWork sum;
  const auto add = [&sum](const ChunkWork& part) {
    sum.seconds.forward += part.seconds.forward;
    sum.seconds.backward_input += part.seconds.backward_input;
    sum.seconds.backward_weight += part.seconds.backward_weight;
    sum.sent += part.sent;
  };
  if (range.embedding) add(embedding());
  for (std::int64_t i = range.first_layer; i < range.last_layer; ++i) add(layer(i));
  if (range.head) add(head());
  return sum;
}

}  // namespace shoal::train
