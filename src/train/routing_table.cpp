#include "train/routing_table.hpp"

#include <algorithm>
#include <limits>
#include <set>

namespace shoal::train {
namespace {

constexpr std::int32_t kUnwritten = -1;

template <class T>
std::vector<T> to_host(const Exec& exec, const ConstTensorView& view) {
  std::vector<T> values(static_cast<std::size_t>(view.elements()));
  download(exec, values.data(), view.bytes_begin(), view.bytes());
  exec.synchronize();
  return values;
}

/// Between the least of the chosen keys and the largest other one.
float margin_of(const float* key_E, std::int64_t experts, const std::int32_t* index_K,
                std::int64_t slots) {
  float least = std::numeric_limits<float>::infinity(), best = -least;
  for (std::int64_t e = 0; e < experts; ++e) {
    const bool chosen =
        std::find(index_K, index_K + slots, static_cast<std::int32_t>(e)) != index_K + slots;
    if (chosen) {
      least = std::min(least, key_E[e]);
    } else {
      best = std::max(best, key_E[e]);
    }
  }
  return least - best;
}

}  // namespace

RoutingTable::RoutingTable(const nn::ModelConfig& config, std::int64_t tokens)
    : layers_{config.num_hidden_layers},
      tokens_{tokens},
      slots_{config.num_experts_per_tok},
      index_(static_cast<std::size_t>(layers_ * tokens_ * slots_), kUnwritten),
      margin_(static_cast<std::size_t>(layers_ * tokens_), 0.0F) {}

std::int64_t RoutingTable::written() const {
  const auto n =
      std::count_if(index_.begin(), index_.end(), [](std::int32_t e) { return e != kUnwritten; });
  return n / slots_;
}

void RoutingTable::merge(const Communicator& world) {
  world.all_reduce(index_, comm::ReduceOp::max);
  world.all_reduce(margin_, comm::ReduceOp::max);
}

void RoutingTable::broadcast(const Communicator& world) {
  world.broadcast(index_, 0);
}

std::vector<RoutingDifference> RoutingTable::differences(const RoutingTable& other) const {
  std::vector<RoutingDifference> out;
  for (std::int64_t layer = 0; layer < layers_; ++layer) {
    for (std::int64_t t = 0; t < tokens_; ++t) {
      const std::set<std::int32_t> mine(row(layer, t), row(layer, t) + slots_);
      const std::set<std::int32_t> theirs(other.row(layer, t), other.row(layer, t) + slots_);
      if (mine == theirs) continue;
      const auto margin = margin_[static_cast<std::size_t>(at(layer, t))];
      out.push_back({.layer = layer, .token = t, .margin = static_cast<double>(margin)});
    }
  }
  return out;
}

bool RoutingRecorder::visit(const Exec& exec, const Choice& choice) {
  const std::int64_t T = choice.index_TK.dim(0), K = table_->slots();
  const std::int64_t E = choice.score_TE.dim(1);
  const auto index = to_host<std::int32_t>(exec, choice.index_TK);
  auto key = to_host<float>(exec, choice.score_TE);
  if (!choice.bias_E.absent()) {
    const auto bias = to_host<float>(exec, choice.bias_E);
    for (std::size_t i = 0; i < key.size(); ++i) key[i] += bias[i % bias.size()];
  }
  for (std::int64_t t = 0; t < T; ++t) {
    const std::int32_t* chosen = index.data() + t * K;
    std::copy_n(chosen, K, table_->row(choice.layer, choice.first_token + t));
    table_->margin(choice.layer, choice.first_token + t) =
        margin_of(key.data() + t * E, E, chosen, K);
  }
  return false;
}

bool RoutingReplay::visit(const Exec& exec, const Choice& choice) {
  const std::int64_t T = choice.index_TK.dim(0);
  upload(exec, choice.index_TK.bytes_begin(), table_->row(choice.layer, choice.first_token),
         T * table_->slots() * size_of(DType::i32));
  exec.synchronize();
  return true;
}

}  // namespace shoal::train
