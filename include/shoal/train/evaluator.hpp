#pragma once
#include <memory>

#include "shoal/comm/communicator.hpp"
#include "shoal/data/loader.hpp"
#include "shoal/train/batch_block.hpp"
#include "shoal/train/forward_chain.hpp"
#include "shoal/train/metrics.hpp"

namespace shoal::train {

struct EvaluatorConfig {
  std::int64_t micro_batch = 1;  ///< sequences of a rank in one pass
  std::int64_t seq_len = 0;
  std::int64_t max_windows = 0;  ///< 0: the whole dataset
};

/// The ranks of an evaluation.
struct EvalRanks {
  const Communicator& all;     ///< sums run over these
  data::DataRank data;         ///< which windows this rank sees
  bool counts_targets = true;  ///< true on one of the ranks that see the same windows
};

/// What an evaluation found.
struct Evaluation {
  ValidationRow row;
  /// Above 0: experts got more rows than their buffers hold, on some rank, and the row is that of a
  /// truncated model. parallel.ep_buffer_factor of this value is enough.
  double expert_factor_needed = 0.0;
};

/// Loss of a model on a dataset in fixed windows, dealt over data ranks; the same windows on any
/// number of ranks. Works without optimizer and gradients.
class Evaluator {
 public:
  /// Takes persistent memory.
  Evaluator(const Exec& exec, const EvaluatorConfig& config);

  struct Task {
    const ForwardChain* model = nullptr;
    std::shared_ptr<const data::TokenDataset> dataset;
    TensorView overflow = {};  ///< TrainState::overflow(); absent where all rows fit
  };
  /// Collective over ranks.all.
  [[nodiscard]] Evaluation run(const Exec& exec, const Task& task, const EvalRanks& ranks);
  /// One pass on a dry Exec: counts memory.
  void measure(const Exec& exec, const ForwardChain& model) const;

 private:
  EvaluatorConfig config_;
  BatchBlock block_;
  TensorView loss_sum_;
};

}  // namespace shoal::train
