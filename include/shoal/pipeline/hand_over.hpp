#pragma once
#include <vector>

#include "shoal/pipeline/schedule.hpp"
#include "shoal/pipeline/stage_verbs.hpp"

namespace shoal::pipeline {

/// Gradients on their way from one chunk of a rank to another chunk of the same rank: persistent
/// buffers, exactly as many as the action list has under way at once.
class HandOver {
 public:
  HandOver() = default;
  HandOver(const Exec& exec, const Border& border, const ScheduleShape& shape, int rank);

  /// The buffer for the gradient that local chunk `chunk` receives.
  [[nodiscard]] TensorView put(int chunk, int micro_batch);
  /// What was put there; stays until release().
  [[nodiscard]] TensorView get(int chunk, int micro_batch) const;
  void release(int chunk, int micro_batch);
  [[nodiscard]] int buffers() const { return static_cast<int>(taken_.size()); }

 private:
  [[nodiscard]] int take(int chunk, int micro_batch);
  [[nodiscard]] std::size_t index(int chunk, int micro_batch) const {
    return pair_index(chunk, micro_batch, micro_batches_);
  }
  int micro_batches_ = 1;
  std::vector<int> buffer_of_;  ///< [chunks * micro_batches]
  std::vector<bool> taken_;
  std::vector<TensorView> buffers_;
};

}  // namespace shoal::pipeline
