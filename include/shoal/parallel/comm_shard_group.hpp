#pragma once
#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/nn/shard_group.hpp"

namespace shoal::parallel {

/// The tensor and sequence parallel group over a transport. Sums run in rank order in fp32 and
/// round once, so that every rank holds the same bits.
class CommShardGroup final : public nn::ShardGroup {
 public:
  /// `collectives` of the tp group must outlive it.
  explicit CommShardGroup(comm::TensorCollectives& collectives)
      : collectives_{&collectives}, size_{collectives.size()}, rank_{collectives.rank()} {}
  /// A group that only a dry Exec asks: a plan is made without the other ranks.
  CommShardGroup(int size, int rank) : size_{size}, rank_{rank} {}

  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] int rank() const override { return rank_; }
  void all_gather(const Exec& exec, const TensorView& whole, const ConstTensorView& part) override;
  void reduce_scatter(const Exec& exec, const TensorView& part,
                      const ConstTensorView& whole) override;
  void all_reduce(const Exec& exec, const TensorView& x) override;

 private:
  /// The transport; null on a dry Exec of a planned group.
  [[nodiscard]] comm::TensorCollectives* transport(const Exec& exec) const;
  void expect_whole(const ConstTensorView& whole, const ConstTensorView& part) const;

  comm::TensorCollectives* collectives_ = nullptr;
  int size_ = 1;
  int rank_ = 0;
};

}  // namespace shoal::parallel
