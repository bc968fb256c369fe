#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "shoal/data/sampler.hpp"
#include "shoal/parallel/process_groups.hpp"
#include "shoal/train/state.hpp"

namespace shoal::train {

/// Where a run stands beside its device state.
struct Progress {
  std::int64_t step = 0;               ///< optimizer steps done
  double seconds = 0.0;                ///< wall time of all parts of the run so far
  std::optional<data::Ledger> ledger;  ///< of the sampler
};

/// What a checkpoint needs from the trainer.
struct SaveInputs {
  const RunConfig* config = nullptr;
  const TrainState* state = nullptr;
  const Progress* progress = nullptr;
  const parallel::ProcessGroups* groups = nullptr;
  std::string tokenizer_hash;
  std::string tokenizer_json;
};
/// Writes, publishes and prunes. Collective over the world; waits for the device. An error of one
/// rank is thrown on all.
void save_checkpoint(const Exec& exec, const SaveInputs& inputs);

/// The checkpoint to continue from by checkpoint.restart, or nothing for a fresh start. Damaged
/// ones are named in a warning and passed over under `auto`; InputError when none is left, when a
/// named one is damaged, or when a fresh start would mix with an earlier run's checkpoints.
[[nodiscard]] std::optional<std::filesystem::path> choose_checkpoint(const RunConfig& config,
                                                                     const Communicator& world);

/// Reads everything back. InputError when the checkpoint is of another model or optimizer.
[[nodiscard]] Progress load_checkpoint(const Exec& exec, const std::filesystem::path& checkpoint,
                                       const RunConfig& config, const TrainState& state);
/// Weights and router biases only.
void load_initial_weights(const Exec& exec, const std::filesystem::path& checkpoint,
                          const RunConfig& config, const TrainState& state);

}  // namespace shoal::train
