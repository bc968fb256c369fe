#pragma once
#include <vector>

#include "shoal/data/loader.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// Steps of random tokens, each sequence one document: the same on any number of ranks.
class RandomBatches {
 public:
  RandomBatches(const RunConfig& config, const BatchShape& shape, data::DataRank rank);
  /// One of a few, in turn.
  [[nodiscard]] const data::StepBatch& next();

 private:
  std::vector<data::StepBatch> batches_;
  std::size_t next_ = 0;
};

}  // namespace shoal::train
