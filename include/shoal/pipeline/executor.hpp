#pragma once
#include <memory>
#include <vector>

#include "shoal/comm/collectives_factory.hpp"
#include "shoal/pipeline/hand_over.hpp"
#include "shoal/pipeline/schedule.hpp"
#include "shoal/pipeline/stage_verbs.hpp"

namespace shoal::pipeline {

/// Verbs, group and factory outlive the executor.
struct ExecutorParts {
  ScheduleShape shape;
  StageVerbs& verbs;
  const Communicator& group;  ///< ProcessGroups::pp(); of shape.stages ranks
  const comm::CollectivesFactory* factory = nullptr;  ///< null: messages go through the host
  bool plans_device_messages = false;  ///< a dry Exec counts the buffers that NCCL would take
};

/// How the ranks of a pipeline reach each other in a step. Collective over the factory's world.
[[nodiscard]] std::unique_ptr<comm::PointToPoint> make_links(const Exec& exec,
                                                             const ExecutorParts& parts);

/// Runs the action list of this pipeline rank: for each action it brings the input (from another
/// rank, or from a chunk of this one), calls the verb, and passes the result on.
///
/// Memory: saved slots as assign_slots says, followed by delta slots as assign_delta_slots says. A
/// received activation lies in the saved slot; a received gradient lies in the delta slot when
/// backward is split, because backward_weight reads it again, and in scratch otherwise. Gradients
/// between two chunks of this rank wait in a few persistent buffers, and so do messages on a
/// device. On a dry Exec the same is counted and nothing is sent; the group may then exist on
/// paper.
class Executor {
 public:
  Executor(const Exec& exec, const ExecutorParts& parts);
  /// With links that the caller has made.
  Executor(const Exec& exec, const ExecutorParts& parts, std::unique_ptr<comm::PointToPoint> links);

  /// All micro-batches of one step. Every message is taken when it returns, or comes first on the
  /// device: the rank may then wait for others in any way.
  void run(const Exec& exec);
  /// Whether no host takes part in the messages.
  [[nodiscard]] bool capturable() const { return links_ == nullptr || links_->capturable(); }

  [[nodiscard]] const ActionList& actions() const { return actions_; }
  [[nodiscard]] int slots() const { return slots_.count; }
  [[nodiscard]] int delta_slots() const { return deltas_.count; }
  /// Of the last run: host seconds waiting for other ranks, of all its host seconds.
  [[nodiscard]] double idle_share() const;
  [[nodiscard]] double seconds_waiting() const { return seconds_waiting_; }
  [[nodiscard]] double seconds() const { return seconds_; }

 private:
  /// The neighbour of a chunk in the model; absent (rank -1) at the ends.
  [[nodiscard]] ChunkPlace neighbour(int chunk, int step) const;
  [[nodiscard]] bool is_here(const ChunkPlace& place) const { return place.rank == rank_; }
  [[nodiscard]] static bool exists(const ChunkPlace& place) { return place.rank >= 0; }
  [[nodiscard]] StageCall call_of(const Action& action) const;
  [[nodiscard]] TensorView border_in(const Store& store) const;

  void execute(const Exec& exec, const Action& action);
  void forward(const Exec& exec, const StageCall& call);
  void backward(const Exec& exec, const StageCall& call, bool split);
  [[nodiscard]] TensorView input(const Exec& exec, const StageCall& call);
  [[nodiscard]] ConstTensorView gradient_in(const Exec& exec, const StageCall& call, bool split);
  [[nodiscard]] TensorView gradient_out(const Exec& exec, const StageCall& call);

  ScheduleShape shape_;
  StageVerbs* verbs_;
  int rank_;
  Border border_;
  ActionList actions_;
  SlotPlan slots_, deltas_;
  HandOver gradients_;
  std::vector<ConstTensorView> outputs_;  ///< [chunks * micro_batches], in their slots
  std::unique_ptr<comm::PointToPoint> links_;
  double seconds_ = 0.0;
  double seconds_waiting_ = 0.0;
};

}  // namespace shoal::pipeline
