#pragma once
#include <memory>
#include <vector>

#include "shoal/comm/collectives_factory.hpp"
#include "shoal/nn/model.hpp"
#include "shoal/pipeline/schedule.hpp"

namespace shoal::train {

/// A model for forward passes without gradients: one Model, or the chunks of a pipeline, whose
/// ranks hand hidden states on in the order of the model.
class ForwardChain {
 public:
  /// The whole model on this rank; it outlives the chain.
  explicit ForwardChain(const nn::Model& model);
  struct Parts {
    std::vector<const nn::Model*> chunks;  ///< of this rank, in local order; they outlive the chain
    pipeline::ScheduleShape shape;         ///< where the chunks of the model live
    const Communicator& group;             ///< pipeline ranks; outlives the chain; may be on paper
    std::int64_t tokens = 0;               ///< T_part, rows of a border
    const comm::CollectivesFactory* factory = nullptr;  ///< outlives the chain; null on paper
    bool plans_device_messages = false;  ///< a dry Exec counts the buffers that NCCL would take
  };
  /// Collective over the factory's world. Takes persistent memory for messages between devices.
  ForwardChain(const Exec& exec, const Parts& parts);
  ~ForwardChain();

  /// loss_sum (f32 [1]) += what this rank's tokens and chunks contribute to the summed loss. All
  /// ranks of the pipeline make the same calls.
  void add_loss(const Exec& exec, const nn::Batch& batch, const TensorView& loss_sum) const;
  [[nodiscard]] const nn::ModelConfig& config() const { return chunks_.front()->config(); }

 private:
  [[nodiscard]] pipeline::ChunkPlace place(int model_chunk) const;
  [[nodiscard]] TensorView border(const Exec& exec) const;

  std::vector<const nn::Model*> chunks_;
  pipeline::ScheduleShape shape_;
  int rank_ = 0;
  std::int64_t tokens_ = 0;
  std::unique_ptr<comm::PointToPoint> links_;  ///< absent in a group of one and on paper
};

}  // namespace shoal::train
