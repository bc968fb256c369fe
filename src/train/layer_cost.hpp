#pragma once
#include "shoal/train/cost_model.hpp"
#include "train/network_cost.hpp"

namespace shoal::train {

/// Times and traffic of the parts of a model for one micro-batch on one rank. The counts of passes
/// and collectives are those of the modules' verbs in nn.
class LayerCost {
 public:
  LayerCost(const RunConfig& config, const Calibration& calibration, const NetworkCost& network);

  [[nodiscard]] ChunkWork layer(std::int64_t index) const;
  [[nodiscard]] ChunkWork embedding() const;
  [[nodiscard]] ChunkWork head() const;  ///< final norm, output projection and loss
  [[nodiscard]] ChunkWork chunk(const nn::StageRange& range) const;
  /// Of a message between two stages: this rank's part of the residual stream.
  [[nodiscard]] double border_bytes() const { return part_ * hidden_ * elem_; }

 private:
  void attention(ChunkWork& work) const;
  void dense_mlp(ChunkWork& work, double width, bool recompute_none, bool recompute_full) const;
  void experts(ChunkWork& work) const;
  void exchange(double& seconds, AxisTraffic& sent) const;
  /// One gather or reduce-scatter of the micro-batch's activations over tp.
  void tensor_group(double& seconds, AxisTraffic& sent, int times) const;
  void tensor_all_reduce(double& seconds, AxisTraffic& sent, double bytes) const;
  [[nodiscard]] double dense(double m, double n, double k) const;
  [[nodiscard]] double grouped(double n, double k, double weight_bytes) const;
  [[nodiscard]] double norm(double rows, double passes) const;
  [[nodiscard]] double pass(double bytes, double bytes_per_s) const;

  const RunConfig* config_;
  const ComputeRates* rates_;
  const NetworkCost* network_;
  double elem_;    ///< bytes of an activation
  double tokens_;  ///< of a micro-batch
  double part_;    ///< of them on one tensor parallel rank
  double hidden_;
  double rows_ = 0.0;  ///< that this rank's experts take, even routing
  double local_experts_ = 1.0;
};

}  // namespace shoal::train
