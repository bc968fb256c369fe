#pragma once
#include <string>
#include <utility>
#include <vector>

#include "shoal/nn/model_layout.hpp"
#include "shoal/pipeline/timeline.hpp"
#include "shoal/train/calibration.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// Bytes that a rank sends in one step, by the axis of the layout, in ring algorithms. The expert
/// exchange depends on the data: its figure is the expectation for even routing.
struct AxisTraffic {
  double tp = 0.0;  ///< activations of the tensor parallel group
  double ep = 0.0;  ///< tokens to their experts and back
  double pp = 0.0;  ///< activations and their gradients between stages
  double dp = 0.0;  ///< gradients and updated weights, experts over edp included
  [[nodiscard]] double total() const { return tp + ep + pp + dp; }
  AxisTraffic& operator+=(const AxisTraffic& other);
  [[nodiscard]] AxisTraffic times(double factor) const;
};

/// One micro-batch in one model chunk, on one rank.
struct ChunkWork {
  pipeline::ChunkCost seconds{.forward = 0.0, .backward_input = 0.0, .backward_weight = 0.0};
  AxisTraffic sent;
};

/// Parameters that one pipeline rank holds, by how they are shared.
struct HeldParameters {
  double dense = 0.0;       ///< replicated over dp
  double replicated = 0.0;  ///< over dp x tp: norms, routers
  double wide = 0.0;        ///< of `replicated`: kept in f32 whatever the precision
  double experts = 0.0;     ///< over edp
  [[nodiscard]] double total() const { return dense + replicated + experts; }
};

/// What the model predicts for a step of one layout.
struct StepCost {
  double seconds = 0.0;
  double pipeline_s = 0.0;  ///< all micro-batches, idle time included
  double reduce_s = 0.0;    ///< gradient reduction and weight gathering that nothing hides
  double optimizer_s = 0.0;
  double bubble_share = 0.0;  ///< idle share of pipeline_s, 0 <= share < 1
  double tokens_per_s = 0.0;  ///< of all ranks
  AxisTraffic sent;           ///< of the rank that sends most
};

/// Expected number of different ranks, out of `ranks`, that hold the K experts of one token when
/// routing is even: P (1 - (1 - 1/P)^K).
[[nodiscard]] double expected_destinations(int ranks, std::int64_t slots);

/// Layers of each model chunk, as the run splits them. InputError when there are more chunks than
/// layers.
[[nodiscard]] std::vector<nn::StageRange> model_chunks(const RunConfig& config);

/// An alpha-beta model of a training step: matrix products at a measured rate, memory passes at a
/// measured bandwidth, messages by latency and bandwidth of the links they use, the pipeline by
/// executing its schedule with those times.
class CostModel {
 public:
  CostModel(Calibration calibration, int gpus_per_node)
      : calibration_{std::move(calibration)}, per_node_{gpus_per_node} {}

  [[nodiscard]] const Calibration& calibration() const { return calibration_; }
  [[nodiscard]] int gpus_per_node() const { return per_node_; }

  /// `config` must be valid for `ranks`, with a known vocabulary.
  [[nodiscard]] StepCost step(const RunConfig& config, int ranks) const;
  /// The same with the bubble of the schedule's theory instead of an execution: for a first choice
  /// among many layouts.
  [[nodiscard]] StepCost quick_step(const RunConfig& config, int ranks) const;
  /// The executed schedule of step(), for a picture.
  [[nodiscard]] pipeline::Timeline timeline(const RunConfig& config, int ranks) const;
  /// Per model chunk, in model order.
  [[nodiscard]] std::vector<ChunkWork> chunks(const RunConfig& config, int ranks) const;

 private:
  struct Prepared;
  [[nodiscard]] Prepared prepare(const RunConfig& config, int ranks) const;
  [[nodiscard]] StepCost complete(const Prepared& p, StepCost cost) const;
  Calibration calibration_;
  int per_node_;
};

/// Parameters of each pipeline rank under `config.parallel`.
[[nodiscard]] std::vector<HeldParameters> held_parameters(
    const RunConfig& config, const std::vector<nn::StageRange>& chunks);

}  // namespace shoal::train
