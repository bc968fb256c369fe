#pragma once
#include <memory>

#include "shoal/comm/communicator.hpp"
#include "shoal/data/loader.hpp"
#include "shoal/nn/model.hpp"
#include "shoal/train/batch_block.hpp"
#include "shoal/train/metrics.hpp"

namespace shoal::train {

struct EvaluatorConfig {
  std::int64_t micro_batch = 1;  ///< sequences of a rank in one pass
  std::int64_t seq_len = 0;
  std::int64_t max_windows = 0;  ///< 0: the whole dataset
};

/// Loss of a model on a dataset in fixed windows, dealt over ranks; the same windows on any number
/// of ranks. Works without optimizer and gradients.
class Evaluator {
 public:
  /// Takes persistent memory.
  Evaluator(const Exec& exec, const EvaluatorConfig& config);

  /// Collective over `ranks`, which hold the same weights.
  struct Task {
    const nn::Model* model = nullptr;
    std::shared_ptr<const data::TokenDataset> dataset;
  };
  [[nodiscard]] ValidationRow run(const Exec& exec, const Task& task, const Communicator& ranks);
  /// One pass on a dry Exec: counts memory.
  void measure(const Exec& exec, const nn::Model& model) const;

 private:
  void add_pass(const Exec& exec, const nn::Model& model) const;

  EvaluatorConfig config_;
  BatchBlock block_;
  TensorView loss_sum_;
};

}  // namespace shoal::train
