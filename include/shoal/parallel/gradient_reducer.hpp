#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "shoal/comm/collectives_factory.hpp"
#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/parallel/gradient_buckets.hpp"
#include "shoal/parallel/process_groups.hpp"

namespace shoal::parallel {

/// Sums partial gradients over exactly the replicas of each parameter, bucket by bucket and in rank
/// order, and brings updated weights back. With ZeRO each rank ends up with the sums of the rows it
/// holds (its other gradients stay partial); without, every replica has all sums, the same bits.
/// A step: begin_step(), ready() as tensors become final, finish(), the update, gather_weights().
class GradientReducer {
 public:
  /// Store and groups must outlive the reducer. On a dry Exec groups and factory are on paper.
  struct Parts {
    const nn::ParameterStore* store = nullptr;
    const ShardPlan* plan = nullptr;
    const ProcessGroups* groups = nullptr;
    const comm::CollectivesFactory* factory = nullptr;
    ReduceOptions options;
  };
  /// Collective over the world, except on paper. Takes persistent memory for its tables.
  GradientReducer(const Exec& exec, const Parts& parts);

  void begin_step();
  /// The gradients of tensors [first, last) will not change in this step any more. The same calls
  /// in the same order on all ranks of a stage.
  void ready(const Exec& exec, nn::ParameterLayout::Handle first, nn::ParameterLayout::Handle last);
  /// Everything is final: reduces what is left, tied tables last.
  void finish(const Exec& exec);
  /// With ZeRO: the working weights of all rows, from the ranks that updated them.
  void gather_weights(const Exec& exec) const;

  /// x = sum of x over all ranks, f32: totals of a step. Equal sizes on all ranks.
  void sum_totals(const Exec& exec, const TensorView& x) const;
  /// Collectives over all ranks.
  [[nodiscard]] comm::TensorCollectives* world() const { return world_.get(); }
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }
  /// Whether the calls may be captured into a CUDA graph: no host takes part.
  [[nodiscard]] bool capturable() const;

 private:
  /// Runs of a bucket in the table: of all its blocks, and of this rank's own.
  struct Tables {
    TensorView all, own;
    bool padded = false;
    std::vector<int> tensors;  ///< whose gradients it waits for
  };
  [[nodiscard]] Tables make_tables(const Exec& exec, const ShardPlan& plan, const Bucket& bucket);
  void make_collectives(const Parts& parts);
  [[nodiscard]] bool is_ready(std::size_t bucket) const;
  void sum_tied(const Exec& exec) const;
  void reduce(const Exec& exec, std::size_t bucket) const;
  void gather(const Exec& exec, std::size_t bucket) const;
  [[nodiscard]] TensorView gradients(bool keep_f32) const;
  [[nodiscard]] TensorView values(bool keep_f32) const;

  const nn::ParameterStore* store_;
  ReduceOptions options_;
  std::vector<Bucket> buckets_;
  std::vector<Tables> tables_;
  std::vector<TensorView> tied_;  ///< gradients of tied tables
  std::vector<char> final_;       ///< for each tensor
  std::size_t next_ = 0;          ///< bucket to reduce
  std::array<std::unique_ptr<comm::TensorCollectives>, kReplicaGroups> groups_;
  std::unique_ptr<comm::TensorCollectives> tied_group_, world_;
};

}  // namespace shoal::parallel
