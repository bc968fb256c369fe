#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "shoal/data/loader.hpp"
#include "shoal/device/graph.hpp"
#include "shoal/parallel/gradient_reducer.hpp"
#include "shoal/pipeline/executor.hpp"
#include "shoal/pipeline/model_verbs.hpp"
#include "shoal/train/batch_block.hpp"
#include "shoal/train/state.hpp"

namespace shoal::train {

/// What a step left on the device, copied to the host: sums over the global batch.
struct StepResult {
  std::vector<float> totals;  ///< as nn::ModelState::totals
  std::vector<float> bias;    ///< [MoE layers, E], after the step
  ops::StepState state;       ///< after the step
  float overflow = 0.0F;  ///< factor of expert rows that this rank's group needed; 0: all fitted
  double seconds_reduce = 0.0;  ///< host time in collectives after the backward pass
  /// Share of this rank's gradients, by elements, whose reduction had ended with the backward pass;
  /// NaN where a device does the work.
  double reduced_early = 0.0;
};

/// What the host brings to a step.
struct StepInputs {
  const data::StepBatch* batch = nullptr;
  std::int64_t targets = 0;  ///< unmasked, of the global batch
  optim::StepInputs scalars;
};

/// One optimizer step: all micro-batches forward and backward, reduction, update, balance bias.
/// Nothing in it allocates or waits for the device; results are read one step later.
class TrainStep {
 public:
  /// `state` outlives it. Takes persistent memory. Collective, except on paper.
  TrainStep(const Exec& exec, const RunConfig& config, const BatchShape& shape,
            const TrainState& state);

  /// Gives a step to the device. Steps alternate between two slots: the result of the step before
  /// the last one must have been read.
  void enqueue(const Exec& exec, const StepInputs& inputs);
  /// Waits for the oldest step whose result was not read yet.
  [[nodiscard]] StepResult next_result();
  /// Host seconds that the last step waited for other pipeline ranks, over all its host seconds.
  [[nodiscard]] double idle_share() const { return executor_.idle_share(); }
  /// Whether steps are launched as one graph: known after the second.
  [[nodiscard]] bool captured() const { return graph_.recorded(); }
  /// For comparisons of layouts: neither works in a captured step.
  void set_tap(nn::RoutingTap* tap) {
    verbs_.set_tap(tap);
    watched_ = watched_ || tap != nullptr;
  }
  void set_probe(std::function<void(const Exec&)> probe) {
    probe_ = std::move(probe);
    watched_ = true;
  }
  [[nodiscard]] int pending() const { return pending_; }
  /// The step on a dry Exec: counts memory.
  void measure(const Exec& exec);

 private:
  struct Factors {
    float loss, aux, z, budget;
  };
  struct Slot {
    HostBuffer totals, bias, state, overflow;
    Event done;
    double seconds_reduce = 0.0, reduced_early = 0.0;
  };
  void write_extra(int slot, const StepInputs& inputs) const;
  void run(const Exec& exec, int slot);
  void run_or_launch(const Exec& exec, int slot);
  void backward(const Exec& exec);
  void reduce(const Exec& exec, int slot);
  void gather_bias(const Exec& exec) const;
  void read_back(const Exec& exec, int slot);

  RunConfig config_;
  BatchShape shape_;
  const TrainState* state_;
  parallel::GradientReducer reducer_;
  BatchBlock block_;
  TensorView scalars_;                           ///< f32 [4], in the order of Factors
  std::unique_ptr<comm::TensorCollectives> pp_;  ///< brings biases together
  TensorView
      all_bias_;  ///< f32 [MoE layers, E]: of all stages; absent where one stage has them all
  pipeline::ModelVerbs verbs_;
  pipeline::Executor executor_;
  /// Called between backward and reduction: a test's chance to plant a fault.
  std::function<void(const Exec&)> probe_;
  std::vector<Slot> slots_;
  Graph graph_;  ///< the whole step, on a GPU that nothing but its own stream takes part in
  bool warm_ = false;
  bool watched_ = false;
  int head_ = 0;
  int pending_ = 0;
};

}  // namespace shoal::train
