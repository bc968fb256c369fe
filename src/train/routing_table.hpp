#pragma once
#include <cstdint>
#include <vector>

#include "shoal/nn/model_config.hpp"
#include "shoal/nn/routing_tap.hpp"
#include "shoal/train/verify_layout.hpp"

namespace shoal::train {

/// Experts of every token of a global batch in every layer, on the host: written by a tap that
/// watches a step, or shown to one that replays it.
class RoutingTable {
 public:
  RoutingTable(const nn::ModelConfig& config, std::int64_t tokens);

  [[nodiscard]] std::int32_t* row(std::int64_t layer, std::int64_t token) {
    return index_.data() + at(layer, token) * slots_;
  }
  [[nodiscard]] const std::int32_t* row(std::int64_t layer, std::int64_t token) const {
    return index_.data() + at(layer, token) * slots_;
  }
  [[nodiscard]] float& margin(std::int64_t layer, std::int64_t token) {
    return margin_[static_cast<std::size_t>(at(layer, token))];
  }
  [[nodiscard]] std::int64_t slots() const { return slots_; }
  /// Choices written, of all tokens and MoE layers.
  [[nodiscard]] std::int64_t written() const;
  /// Brings the rows that ranks wrote together; each row was written by at least one.
  void merge(const Communicator& world);
  /// Rank 0's table everywhere.
  void broadcast(const Communicator& world);
  /// Tokens whose sets of experts differ; margins are those of this table.
  [[nodiscard]] std::vector<RoutingDifference> differences(const RoutingTable& other) const;

 private:
  [[nodiscard]] std::int64_t at(std::int64_t layer, std::int64_t token) const {
    return layer * tokens_ + token;
  }
  std::int64_t layers_, tokens_, slots_;
  std::vector<std::int32_t> index_;  ///< -1: not written
  std::vector<float> margin_;
};

/// Writes what the routers choose into a table.
class RoutingRecorder final : public nn::RoutingTap {
 public:
  explicit RoutingRecorder(RoutingTable& table) : table_{&table} {}
  bool visit(const Exec& exec, const Choice& choice) override;

 private:
  RoutingTable* table_;
};

/// Replaces what the routers choose by a table's rows.
class RoutingReplay final : public nn::RoutingTap {
 public:
  explicit RoutingReplay(const RoutingTable& table) : table_{&table} {}
  bool visit(const Exec& exec, const Choice& choice) override;

 private:
  const RoutingTable* table_;
};

}  // namespace shoal::train
