#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/ops/optimizer.hpp"
#include "shoal/optim/optimizer_config.hpp"
#include "shoal/optim/state_layout.hpp"

namespace shoal::optim {

/// State tensors of the rows that this rank holds, beside one flat weight buffer; those that the
/// kind or the dtype does not need are absent, as all are where no row is held.
struct StateBuffers {
  TensorView m, v, u;  ///< [S] f32, or bf16 for m and u
  TensorView low;      ///< [S] u16: low halves of bf16 master weights
  TensorView master;   ///< [S] f32: master weights of f16
};
/// Dtypes of the states that a kind has; a checkpoint holds these for every parameter.
struct StateTypes {
  std::optional<DType> m, v, u;
};
[[nodiscard]] StateTypes state_types(const OptimizerConfig& config);

/// What the host decides before a step: the front of ops::StepState, byte for byte.
struct StepInputs {
  float lr = 0.0F;
  float mu = 0.0F;
  std::int64_t seed = 0;
};
static_assert(offsetof(StepInputs, seed) == offsetof(ops::StepState, step_seed));

/// Owner of the optimizer states of one rank's rows and of the device's StepState; all memory is
/// the arena's.
class Optimizer {
 public:
  /// `store` must outlive the optimizer and hold gradients; `plan` is of the store's layout.
  Optimizer(const Exec& exec, const nn::ParameterStore& store, const parallel::ShardPlan& plan,
            const OptimizerConfig& config);
  /// One rank that holds all rows.
  Optimizer(const Exec& exec, const nn::ParameterStore& store, const OptimizerConfig& config);

  /// States to zero, StepState to that of a run's start. Gradients too: alignment gaps count in
  /// the norm.
  void reset(const Exec& exec) const;
  /// Stream-ordered copy of StepInputs that lie in device memory; before the first kernel of a
  /// step.
  void take_inputs(const Exec& exec, const void* device_inputs) const;

  struct StepArgs {
    comm::TensorCollectives* world = nullptr;  ///< all ranks; null: this one alone
    /// f32 [1]: above 0 on any rank, all skip this step, as for a norm that is not finite.
    /// Optional.
    ConstTensorView overflow;
  };
  /// Global norm (each element counted once, the same bits on all ranks), skip or clip, update of
  /// the held rows. Gradients must be reduced; weights are gathered afterwards.
  void step(const Exec& exec, const StepArgs& args) const;
  void step(const Exec& exec) const { step(exec, {}); }  ///< of one rank

  [[nodiscard]] bool dynamic_loss_scale() const;                    ///< fp16
  [[nodiscard]] const TensorView& state() const { return state_; }  ///< u8 [sizeof(StepState)]
  [[nodiscard]] ConstTensorView skip_flag() const;                  ///< i32 [1] inside state()
  [[nodiscard]] ConstTensorView step_seed() const;                  ///< i64 [1] inside state()
  [[nodiscard]] const OptimizerConfig& config() const { return config_; }
  [[nodiscard]] const nn::ParameterStore& store() const { return *store_; }
  [[nodiscard]] const parallel::ShardPlan& plan() const { return plan_; }
  [[nodiscard]] const StateBuffers& buffers(bool keep_f32) const { return keep_f32 ? f32_ : elem_; }
  [[nodiscard]] const StateBlock& block(int parameter) const {
    return states_.blocks[static_cast<std::size_t>(parameter)];
  }

  /// Local elements [first, first + count) of a parameter.
  struct MasterWindow {
    int parameter = 0;  ///< index in ParameterLayout::parameters()
    std::int64_t first = 0;
    std::int64_t count = 0;
  };
  /// Fresh master weights of all parameters, made on the device, whole weights and held rows.
  /// Waits.
  void initialise(const Exec& exec, std::uint64_t seed) const;
  /// Writes fp32 master values into the working weights and, of held rows, into low or master.
  /// Host memory; waits.
  void set_master(const Exec& exec, const MasterWindow& window, const float* values) const;
  /// Reads them back; all elements must be held.
  void get_master(const Exec& exec, const MasterWindow& window, float* values) const;

 private:
  struct Tables {
    TensorView elem, f32;        ///< u8, UpdateSegment
    TensorView runs, run_begin;  ///< of the norm; absent when everything counts
  };
  struct MasterPiece;
  [[nodiscard]] StateBuffers make_buffers(const Exec& exec, bool keep_f32) const;
  [[nodiscard]] Tables make_tables(const Exec& exec) const;
  struct MasterValues;
  void split(const Exec& exec, const MasterWindow& window, const MasterValues& from) const;
  [[nodiscard]] std::vector<MasterPiece> pieces(const MasterWindow& window) const;
  [[nodiscard]] ops::OptimizerUpdate update_of(bool keep_f32) const;
  void count_squares(const Exec& exec, const StepArgs& args) const;

  OptimizerConfig config_;
  ops::OptimizerKind kind_;
  const nn::ParameterStore* store_;
  parallel::ShardPlan plan_;
  StateLayout states_;
  StateBuffers elem_, f32_;
  Tables tables_;
  TensorView state_, square_sum_;
};

}  // namespace shoal::optim
