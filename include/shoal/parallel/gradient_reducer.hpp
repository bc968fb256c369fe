#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "shoal/comm/collectives_factory.hpp"
#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/device/side_exec.hpp"
#include "shoal/nn/parameter_watch.hpp"
#include "shoal/parallel/bucket_transfer.hpp"
#include "shoal/parallel/process_groups.hpp"

namespace shoal::parallel {

/// Sums partial gradients over exactly the replicas of each parameter, bucket by bucket and in rank
/// order, and brings updated weights back. With ZeRO each rank ends up with the sums of the rows it
/// holds (its other gradients stay partial); without, every replica has all sums, the same bits.
/// A step: begin_step(), after_gradients() as tensors become final, finish(), the update,
/// gather_weights().
///
/// The collectives of a bucket may start as soon as its gradients are final: in host memory, with
/// ReduceOptions::overlap, they are posted and moved on by after_gradients(); through NCCL, with
/// ReduceOptions::overlap_nccl, they run on a stream of their own, which finish() joins. Device
/// memory through MPI is reduced in finish(). The order of buckets is fixed, so every rank of a
/// group starts the same collectives in the same order, and the bits do not depend on the overlap.
class GradientReducer final : public nn::ParameterWatch {
 public:
  /// Store and groups must outlive the reducer. On a dry Exec groups and factory are on paper.
  struct Parts {
    const nn::ParameterStore* store = nullptr;
    const ShardPlan* plan = nullptr;
    const ProcessGroups* groups = nullptr;
    const comm::CollectivesFactory* factory = nullptr;
    ReduceOptions options;
  };
  /// Collective over the world, except on paper. Takes persistent memory for tables and buckets.
  GradientReducer(const Exec& exec, const Parts& parts);
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  void begin_step();
  void before_use(const Exec& exec, nn::TensorRange tensors) override;
  /// The same calls in the same order on all ranks of a stage.
  void after_gradients(const Exec& exec, nn::TensorRange tensors) override;
  /// Everything is final: reduces what is left, tied tables last.
  void finish(const Exec& exec);
  /// With ZeRO: the working weights of all rows, from the ranks that updated them.
  void gather_weights(const Exec& exec);

  /// x = sum of x over all ranks, f32: totals of a step. Equal sizes on all ranks.
  void sum_totals(const Exec& exec, const TensorView& x) const;
  /// Collectives over all ranks.
  [[nodiscard]] comm::TensorCollectives* world() const { return world_.get(); }
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }
  /// Of the last step's gradients, by elements: the share whose reduction had ended when finish()
  /// was called. NaN where the host does not see it, because a device does the work.
  [[nodiscard]] double overlapped_share() const { return overlapped_share_; }
  /// Whether the calls may be captured into a CUDA graph: no host takes part.
  [[nodiscard]] bool capturable() const;

 private:
  void make_collectives(const Parts& parts);
  void find_tied(const ShardPlan& plan);
  [[nodiscard]] std::vector<int> tensors_of(const Bucket& bucket) const;
  [[nodiscard]] bool is_ready(std::size_t bucket) const;
  [[nodiscard]] double share_of(std::size_t buckets) const;
  void sum_tied(const Exec& exec) const;
  /// Where collectives run; on a stream beside it goes on where `exec` is.
  [[nodiscard]] const Exec& beside(const Exec& exec) { return side_ ? side_->fork(exec) : exec; }
  void rejoin(const Exec& exec) {
    if (side_) side_->join(exec);
  }

  const nn::ParameterStore* store_;
  ReduceOptions options_;
  std::vector<Bucket> buckets_;
  std::vector<std::vector<int>> tensors_;  ///< whose gradients each bucket waits for
  std::vector<TensorView> tied_;           ///< gradients of tied tables
  std::vector<char> final_;                ///< for each tensor
  std::size_t next_ = 0;                   ///< bucket to reduce
  std::array<std::unique_ptr<comm::TensorCollectives>, kReplicaGroups> groups_;
  std::unique_ptr<comm::TensorCollectives> tied_group_, world_;
  std::optional<BucketTransfer> transfer_;
  std::optional<SideExec> side_;
  bool eager_ = false;  ///< buckets start as they become ready
  double overlapped_share_ = 0.0;
};

}  // namespace shoal::parallel
