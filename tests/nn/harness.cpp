#include "harness.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "shoal/base/philox.hpp"

namespace shoal::nn::test {
namespace {

/// Storage offset of each local element of a parameter.
template <class Body>
void for_each_element(const StorageMap& map, const Body& body) {
  for (std::int64_t k = 0; k < map.elements(); ++k) {
    body(static_cast<std::size_t>(k),
         static_cast<std::size_t>(map.offset + k / map.inner * map.stride + k % map.inner));
  }
}

Placement placement_of(const ShardGroup* group) {
  if (group == nullptr) return {};
  return {.tp = group->size(), .tp_rank = group->rank()};
}

}  // namespace

std::int64_t HostBatch::targets() const {
  return std::accumulate(mask.begin(), mask.end(), std::int64_t{0});
}

HostBatch random_batch(std::int64_t sequences, std::int64_t sequence, std::int64_t vocab,
                       const std::vector<std::int64_t>& cuts) {
  HostBatch batch{.sequence = sequence};
  for (std::int64_t t = 0; t < sequences * sequence; ++t) {
    const philox::Block block =
        philox::block(5, philox::Purpose::test, static_cast<std::uint64_t>(t));
    const auto V = static_cast<std::uint32_t>(vocab);
    const std::int64_t at = t % sequence;
    std::int64_t start = t - at;
    for (const std::int64_t cut : cuts) start = at >= cut ? t - at + cut : start;
    batch.token.push_back(static_cast<std::int32_t>(block.x0 % V));
    batch.target.push_back(static_cast<std::int32_t>(block.x1 % V));
    batch.mask.push_back(std::count(cuts.begin(), cuts.end(), at + 1) == 0 ? 1 : 0);
    batch.doc_start.push_back(static_cast<std::int32_t>(start));
    batch.position.push_back(static_cast<std::int32_t>(t - start));
  }
  return batch;
}

HostBatch sequences_of(const HostBatch& batch, std::int64_t first, std::int64_t count) {
  const std::int64_t begin = first * batch.sequence, end = begin + count * batch.sequence;
  const auto part = [&](const auto& all) {
    return std::decay_t<decltype(all)>(all.begin() + begin, all.begin() + end);
  };
  HostBatch out{.token = part(batch.token),
                .target = part(batch.target),
                .doc_start = part(batch.doc_start),
                .position = part(batch.position),
                .mask = part(batch.mask),
                .sequence = batch.sequence,
                .first_token = batch.first_token + begin};
  for (std::int32_t& start : out.doc_start) start -= static_cast<std::int32_t>(begin);
  return out;
}

DeviceBatch::DeviceBatch(const Exec& exec, const HostBatch& host) {
  const Shape shape{host.tokens()};
  for (const auto* ints : {&host.token, &host.target, &host.doc_start, &host.position}) {
    tensors_.push_back(from_ints(exec, shape, *ints));
  }
  Tensor& mask = tensors_.emplace_back(exec.device(), shape, DType::u8);
  upload(exec, mask.view().bytes_begin(), host.mask.data(), mask.view().bytes());
  exec.synchronize();
  view_ = {.token_T = tensors_[0],
           .target_T = tensors_[1],
           .mask_T = tensors_[4],
           .doc_start_T = tensors_[2],
           .position_T = tensors_[3],
           .sequence = host.sequence,
           .first_token = host.first_token};
}

DeviceScalars::DeviceScalars(const Exec& exec, const Scales& scales)
    : values_{from_values(exec, {4}, DType::f32,
                          {scales.loss, scales.aux, scales.z, scales.budget})},
      seed_{exec.device(), {1}, DType::i64} {
  upload(exec, seed_.view().bytes_begin(), &scales.step_seed, seed_.view().bytes());
  exec.synchronize();
  const ConstTensorView values = values_;
  view_ = {.loss_grad_scale = values.rows(0, 1),
           .aux_scale = values.rows(1, 1),
           .z_scale = values.rows(2, 1),
           .budget_scale = values.rows(3, 1),
           .step_seed = seed_};
}

Harness::Harness(Exec& e, const Options& options)
    : Harness{e, options, whole_model(options.config)} {}

Harness::Harness(Exec& e, const Options& options, const StageRange& range)
    : exec{e},
      config{options.config},
      layout{make_layout(config, std::span{&range, 1}, placement_of(options.tensor))},
      store{exec, layout.parameters, options.elem, true},
      state{make_model_state(exec, config, std::span{&range, 1})},
      dispatcher{config.num_experts, config.capacity_factor},
      model{{.config = config,
             .compute = options.compute,
             .layout = layout.stages.front(),
             .store = store,
             .state = state,
             .groups = {.tensor = options.tensor != nullptr ? options.tensor : &group,
                        .dispatcher = &dispatcher}}} {
  initialise(exec, store, options.seed);
  if (config.dynamic_heads.enabled && !exec.is_dry()) open_gates();
}

void Harness::open_gates() {
  for (const Parameter& p : layout.parameters.parameters()) {
    if (p.spec.name.ends_with("head_gate.bias")) set(p.spec.name, {0.0F});
    if (!p.spec.name.ends_with("head_gate.weight")) continue;
    std::vector<float> w(static_cast<std::size_t>(config.hidden_size));
    for (std::size_t i = 0; i < w.size(); ++i) {
      w[i] = philox::normal(philox::block(9, philox::Purpose::test, i, p.spec.stream));
    }
    set(p.spec.name, w);
  }
}

void Harness::set(const std::string& name, const std::vector<float>& values) {
  const Parameter& p = layout.parameters.find(name);
  ASSERT_EQ(static_cast<std::int64_t>(values.size()), p.storage.elements()) << name;
  const TensorView buffer = p.spec.keep_f32 ? store.f32_values() : store.elem_values();
  std::vector<float> flat = download_floats(exec, buffer);
  for_each_element(p.storage, [&](std::size_t k, std::size_t at) { flat[at] = values[k]; });
  upload_values(exec, buffer, flat);
}

std::vector<float> Harness::gradient(const std::string& name) const {
  const Parameter& p = layout.parameters.find(name);
  const std::int64_t base = layout.parameters.gradient_base(p.spec.keep_f32);
  const std::vector<float> flat = all_gradients();
  std::vector<float> values(static_cast<std::size_t>(p.storage.elements()));
  for_each_element(p.storage, [&](std::size_t k, std::size_t at) {
    values[k] = flat[static_cast<std::size_t>(base) + at];
  });
  return values;
}

float Harness::train(const HostBatch& host, const Scales& scales) {
  const DeviceBatch batch{exec, host};
  const DeviceScalars scalars{exec, scales};
  MicroBatchSaved saved = model.make_saved();
  model.begin_step(exec);
  model.train_micro_batch(exec, {.batch = batch.view(), .scalars = scalars.view()}, saved, 0,
                          ops::Accumulate::overwrite);
  return loss_sum();
}

float Harness::evaluate(const HostBatch& host) const {
  const DeviceBatch batch{exec, host};
  const Tensor loss = from_values(exec, {1}, DType::f32, {0.0F});
  model.evaluate(exec, batch.view(), {.loss_sum = loss});
  return download_floats(exec, loss).front();
}

double distance(const std::vector<float>& got, const std::vector<float>& expected) {
  if (got.size() != expected.size()) return INFINITY;
  double error = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return norm > 0.0 ? std::sqrt(error / norm) : std::sqrt(error);
}

ModelConfig small_config() {
  ModelConfig c;
  c.vocab_size = 37;
  c.hidden_size = 24;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 8;
  c.max_position_embeddings = 160;
  c.intermediate_size = 20;
  c.first_k_dense_replace = 1;
  c.num_experts = 5;
  c.num_experts_per_tok = 2;
  c.moe_intermediate_size = 12;
  c.n_shared_experts = 1;
  c.router_aux_loss_coef = 0.1;
  c.router_z_loss_coef = 0.01;
  c.initializer_range = 0.3;
  c.scale_residual_init = false;
  return c;
}

}  // namespace shoal::nn::test
