#include "layout/matrix_case.hpp"

#include <array>

#include "train/toy.hpp"

namespace shoal::test {
namespace {

struct Degrees {
  int dp, tp, pp, ep;
};
constexpr std::array kLayouts = {Degrees{2, 1, 1, 1}, Degrees{4, 1, 1, 1}, Degrees{1, 2, 1, 1},
                                 Degrees{1, 4, 1, 1}, Degrees{2, 1, 1, 2}, Degrees{4, 1, 1, 4},
                                 Degrees{1, 2, 1, 2}, Degrees{2, 2, 1, 1}, Degrees{2, 2, 1, 4},
                                 Degrees{8, 1, 1, 2}, Degrees{1, 1, 2, 1}, Degrees{1, 1, 4, 1},
                                 Degrees{2, 1, 2, 2}, Degrees{1, 2, 2, 2}, Degrees{2, 2, 2, 2},
                                 Degrees{2, 1, 4, 2}, Degrees{1, 4, 2, 4}, Degrees{2, 2, 2, 4}};
constexpr std::array kSchedules = {"1f1b", "gpipe", "interleaved", "zb-h1", "zbv"};
constexpr std::array kRecompute = {"none", "selective", "full"};

int value(const Row& row, Factor f) {
  return row[static_cast<std::size_t>(f)];
}
const Degrees& degrees(const Row& row) {
  return kLayouts[static_cast<std::size_t>(value(row, Factor::layout))];
}
const char* schedule(const Row& row) {
  return kSchedules[static_cast<std::size_t>(value(row, Factor::schedule))];
}

void set_model(nn::ModelConfig& m, const Row& row) {
  m.hidden_size = 32;
  m.num_hidden_layers = 8;
  m.num_attention_heads = 8;
  m.num_key_value_heads = 4;
  m.head_dim = 8;
  m.max_position_embeddings = 128;
  m.intermediate_size = 48;
  m.first_k_dense_replace = 1;
  m.num_experts = 8;
  m.num_experts_per_tok = 2;
  m.moe_intermediate_size = 16;
  const bool sigmoid = value(row, Factor::router) == 1;
  m.router = sigmoid ? "sigmoid" : "softmax";
  m.router_bias_update_rate = sigmoid ? 0.01 : 0.0;
  m.router_aux_loss_coef = 0.01;
  m.router_z_loss_coef = 0.001;
  m.n_shared_experts = value(row, Factor::shared);
  m.tie_word_embeddings = value(row, Factor::tied) == 1;
  m.dynamic_heads.enabled = value(row, Factor::dynamic) == 1;
  m.dynamic_heads.head_budget_coef = 0.1;
  m.embedding_dropout = m.attention_dropout = m.expert_dropout =
      value(row, Factor::dropout) == 1 ? 0.1 : 0.0;
}

void set_parallel(parallel::ParallelConfig& p, const Row& row) {
  const Degrees& d = degrees(row);
  p = {};
  p.tp = d.tp;
  p.pp = d.pp;
  p.ep = d.ep;
  p.schedule = schedule(row);
  p.chunks = p.schedule == "interleaved" || p.schedule == "zbv" ? 2 : 1;
  p.zero = value(row, Factor::zero) == 1;
  p.bucket_elements = 4096;  // some for each layer, so that they overlap with the backward pass
}

}  // namespace

std::vector<int> matrix_levels() {
  return {static_cast<int>(kLayouts.size()),
          static_cast<int>(kSchedules.size()),
          static_cast<int>(kRecompute.size()),
          2,
          2,
          2,
          2,
          2,
          2,
          2,
          2};
}

bool matrix_valid(const Row& row) {
  const int layout = value(row, Factor::layout);
  if (layout < 0) return true;
  return degrees(row).pp > 1 || value(row, Factor::schedule) <= 0;
}

int ranks_of(const Row& row) {
  const Degrees& d = degrees(row);
  return d.dp * d.tp * d.pp;
}

train::RunConfig matrix_config(const Row& row, const std::filesystem::path& folder,
                               const std::string& device) {
  train::RunConfig c = toy_config(folder);
  set_model(c.model, row);
  set_parallel(c.parallel, row);
  const char* recompute = kRecompute[static_cast<std::size_t>(value(row, Factor::recompute))];
  c.compute.recompute_attention = c.compute.recompute_mlp = recompute;
  c.training.device = device;
  c.training.precision = value(row, Factor::precision) == 1 ? "bf16" : "fp32";
  c.training.seq_len = 128;  // two gate blocks
  c.training.micro_batch_size = 1;
  const int accumulation = value(row, Factor::accumulation) == 1 ? 4 : 1;
  c.training.global_batch_size = std::int64_t{degrees(row).dp} * accumulation;
  return c;
}

std::string describe(const Row& row) {
  const Degrees& d = degrees(row);
  std::string text = "dp=" + std::to_string(d.dp) + " tp=" + std::to_string(d.tp) +
                     " pp=" + std::to_string(d.pp) + " ep=" + std::to_string(d.ep);
  if (d.pp > 1) text += std::string{" "} + schedule(row);
  text += std::string{" recompute="} +
          kRecompute[static_cast<std::size_t>(value(row, Factor::recompute))];
  text += value(row, Factor::router) == 1 ? " sigmoid" : " softmax";
  const std::array<std::pair<Factor, const char*>, 7> flags = {
      std::pair{Factor::shared, " shared"},
      {Factor::tied, " tied"},
      {Factor::dynamic, " dynamic"},
      {Factor::precision, " bf16"},
      {Factor::accumulation, " accumulation=4"},
      {Factor::zero, " zero"},
      {Factor::dropout, " dropout"}};
  for (const auto& [factor, label] : flags) {
    if (value(row, factor) == 1) text += label;
  }
  return text;
}

}  // namespace shoal::test
