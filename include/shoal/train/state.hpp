#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "shoal/comm/collectives_factory.hpp"
#include "shoal/nn/model.hpp"
#include "shoal/nn/shard_group.hpp"
#include "shoal/nn/token_dispatcher.hpp"
#include "shoal/optim/optimizer.hpp"
#include "shoal/parallel/process_groups.hpp"
#include "shoal/pipeline/schedule.hpp"
#include "shoal/train/forward_chain.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// Of the transport that a configuration asks for.
[[nodiscard]] comm::CollectivesOptions collectives_options(const parallel::ParallelConfig& config);

/// How a rank reaches the others; on a dry Exec both may be of groups on paper.
struct RankLinks {
  const parallel::ProcessGroups* groups = nullptr;
  const comm::CollectivesFactory* factory = nullptr;

  /// Collectives of a group. Collective over the world, except on paper.
  [[nodiscard]] std::unique_ptr<comm::TensorCollectives> make(const Communicator& group) const;
};
/// Whether a plan counts the buffers of messages between devices: NCCL may be chosen.
[[nodiscard]] bool plans_device_messages(const parallel::ParallelConfig& config, DeviceKind device);

/// The pipeline schedule that a configuration asks for.
[[nodiscard]] pipeline::ScheduleShape schedule_shape(const parallel::ParallelConfig& config,
                                                     std::int64_t micro_batches);

/// Parameters of one rank, by arithmetic: the groups may be on paper.
[[nodiscard]] nn::RankLayout rank_layout(const RunConfig& config,
                                         const parallel::ProcessGroups& groups);

/// The device side of what a checkpoint holds, as far as this rank has it: its slices of weights,
/// the optimizer states of the rows that it holds, StepState, router biases. Memory is the arena's,
/// so a TrainState on a dry Exec measures it.
class TrainState {
 public:
  /// model.vocab_size must be known; groups and factory outlive the state. Collective, except on
  /// paper.
  TrainState(const Exec& exec, const RunConfig& config, const RankLinks& links);
  ~TrainState();
  TrainState(const TrainState&) = delete;
  TrainState& operator=(const TrainState&) = delete;

  /// Fresh weights and states; the same on any layout.
  void initialise(const Exec& exec, std::uint64_t seed) const;

  [[nodiscard]] const nn::RankLayout& layout() const { return layout_; }
  [[nodiscard]] const nn::ParameterStore& store() const { return store_; }
  [[nodiscard]] const nn::ModelState& model_state() const { return model_state_; }
  /// The model chunks of this rank, in local order.
  [[nodiscard]] const std::vector<nn::Model>& chunks() const { return chunks_; }
  [[nodiscard]] const optim::Optimizer& optimizer() const { return optimizer_; }
  [[nodiscard]] const RankLinks& links() const { return links_; }
  /// f32 [1]: above 0 when experts got more rows than their buffers hold; absent where all fit.
  [[nodiscard]] const TensorView& overflow() const { return overflow_; }
  /// Whether no host takes part in a forward or backward pass, messages between stages aside.
  [[nodiscard]] bool capturable() const;

 private:
  [[nodiscard]] std::unique_ptr<nn::TokenDispatcher> make_dispatcher(const Exec& exec,
                                                                     const RunConfig& config);

  RankLinks links_;
  nn::RankLayout layout_;
  nn::ParameterStore store_;
  nn::ModelState model_state_;
  std::unique_ptr<comm::TensorCollectives> tp_, ep_;
  std::unique_ptr<nn::ShardGroup> tensor_group_;
  TensorView overflow_;
  std::unique_ptr<nn::TokenDispatcher> dispatcher_;
  std::vector<nn::Model> chunks_;
  optim::Optimizer optimizer_;
};

/// The forward chain of a run's model.
[[nodiscard]] ForwardChain::Parts chain_parts(const Exec& exec, const RunConfig& config,
                                              const BatchShape& shape, const TrainState& state);

}  // namespace shoal::train
