#pragma once
#include <cstdint>
#include <string>

#include "shoal/device/arena.hpp"
#include "shoal/nn/model_config.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// What a run would need, measured on a dry Exec: the memory is the step's own.
struct PlanReport {
  std::string layout;  ///< "pp=1 dp=4 cp=1 tp=1"
  BatchShape batch;
  nn::ModelSize size;
  ArenaPlan memory;                      ///< of each rank, on its device
  double flops_per_token = 0.0;          ///< forward and backward, without recompute
  std::int64_t tokens_per_step = 0;      ///< all ranks
  std::int64_t wire_bytes_per_step = 0;  ///< sent by each rank
  std::int64_t checkpoint_bytes = 0;     ///< before compression
  [[nodiscard]] std::string text() const;
};

/// Of one rank. Needs no GPU and no data, but model.vocab_size must be known (resolve_vocab).
[[nodiscard]] PlanReport plan(const RunConfig& config, int ranks, int rank = 0);

/// Sets model.vocab_size from the training dataset where it is 0. InputError when it does not fit.
void resolve_vocab(RunConfig& config);
/// InputError when tensor parallel ranks cannot share model.vocab_size, which must be known.
void require_vocab_split(const RunConfig& config);

}  // namespace shoal::train
