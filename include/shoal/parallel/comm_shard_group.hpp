#pragma once
#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/nn/shard_group.hpp"

namespace shoal::parallel {

/// The tensor and sequence parallel group over a transport. Sums run in rank order in fp32 and
/// round once, so that every rank holds the same bits.
class CommShardGroup final : public nn::ShardGroup {
 public:
  /// `collectives` of the tp group must outlive it. On a dry Exec they may be of a group on paper.
  explicit CommShardGroup(comm::TensorCollectives& collectives) : collectives_{&collectives} {}

  [[nodiscard]] int size() const override { return collectives_->size(); }
  [[nodiscard]] int rank() const override { return collectives_->rank(); }
  void all_gather(const Exec& exec, const TensorView& whole, const ConstTensorView& part) override;
  void reduce_scatter(const Exec& exec, const TensorView& part,
                      const ConstTensorView& whole) override;
  void all_reduce(const Exec& exec, const TensorView& x) override;

 private:
  void expect_whole(const ConstTensorView& whole, const ConstTensorView& part) const;

  comm::TensorCollectives* collectives_;
};

}  // namespace shoal::parallel
