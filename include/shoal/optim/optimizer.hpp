#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/nn/parameter.hpp"
#include "shoal/ops/optimizer.hpp"
#include "shoal/optim/optimizer_config.hpp"

namespace shoal::optim {

/// Flat state tensors beside one flat weight buffer; those that the kind or the dtype does not
/// need are absent.
struct StateBuffers {
  TensorView m, v, u;  ///< [N] f32, or bf16 for m and u
  TensorView low;      ///< [N] u16: low halves of bf16 master weights
  TensorView master;   ///< [N] f32: master weights of f16
};

/// The rows [first_row, first_row + rows) of a parameter (leading dimensions flattened) whose
/// states this rank holds. All rows of all parameters in this version; ZeRO-1 makes them shards.
struct StateShard {
  int parameter = 0;  ///< index in ParameterLayout::parameters()
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

/// What the host decides before a step: the front of ops::StepState, byte for byte.
struct StepInputs {
  float lr = 0.0F;
  float mu = 0.0F;
  std::int64_t seed = 0;
};
static_assert(offsetof(StepInputs, seed) == offsetof(ops::StepState, step_seed));

/// Owner of optimizer states and of the device's StepState; all memory is the arena's.
class Optimizer {
 public:
  /// `store` must outlive the optimizer and hold gradients.
  Optimizer(const Exec& exec, const nn::ParameterStore& store, const OptimizerConfig& config);

  /// States to zero, StepState to that of a run's start. Gradients too: alignment gaps count in
  /// the norm.
  void reset(const Exec& exec) const;
  /// Stream-ordered copy of StepInputs that lie in device memory; before the first kernel of a
  /// step.
  void take_inputs(const Exec& exec, const void* device_inputs) const;
  /// Global norm, skip or clip, update of every range. Gradients must be reduced.
  void step(const Exec& exec) const;

  [[nodiscard]] bool dynamic_loss_scale() const;                    ///< fp16
  [[nodiscard]] const TensorView& state() const { return state_; }  ///< u8 [sizeof(StepState)]
  [[nodiscard]] ConstTensorView skip_flag() const;                  ///< i32 [1] inside state()
  [[nodiscard]] ConstTensorView step_seed() const;                  ///< i64 [1] inside state()
  [[nodiscard]] const OptimizerConfig& config() const { return config_; }
  [[nodiscard]] const nn::ParameterStore& store() const { return *store_; }
  [[nodiscard]] const StateBuffers& buffers(bool keep_f32) const { return keep_f32 ? f32_ : elem_; }
  [[nodiscard]] const std::vector<StateShard>& shards() const { return shards_; }

  /// Writes fp32 master values of a parameter range [first, first + count) of a flat buffer into
  /// the working weights (and low or master), and reads them back. Host memory; waits.
  struct MasterWindow {
    bool keep_f32 = false;
    std::int64_t first = 0;
    std::int64_t count = 0;
  };
  void set_master(const Exec& exec, const MasterWindow& window, const float* values) const;
  void get_master(const Exec& exec, const MasterWindow& window, float* values) const;

 private:
  [[nodiscard]] StateBuffers make_buffers(const Exec& exec, std::int64_t count, DType dtype) const;
  [[nodiscard]] ops::MasterSplit window_views(const MasterWindow& window) const;
  [[nodiscard]] ops::OptimizerUpdate update_of(const nn::OptimizerRange& range) const;

  OptimizerConfig config_;
  ops::OptimizerKind kind_;
  const nn::ParameterStore* store_;
  StateBuffers elem_, f32_;
  TensorView state_, square_sum_;
  std::vector<StateShard> shards_;
};

}  // namespace shoal::optim
