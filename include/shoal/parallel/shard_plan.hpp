#pragma once
#include <cstdint>
#include <vector>

#include "shoal/nn/parameter.hpp"
#include "shoal/parallel/parallel_config.hpp"

namespace shoal::parallel {

/// Ranks of one stage that hold the same part of a parameter: along dp (dense weights), all of the
/// stage (norms, routers, gates), along edp (experts).
enum class ReplicaGroup { dp, stage, edp };
inline constexpr int kReplicaGroups = 3;
/// Of nn::ReplicaAxes; kCp and kPp aside.
[[nodiscard]] ReplicaGroup replica_group(unsigned axes);

/// A rank's place in a group; ranks of a group are ordered by world rank.
struct Member {
  int rank = 0;
  int size = 1;
};
[[nodiscard]] Member member(const Layout& ranks, int world_rank, ReplicaGroup group);

/// Rows [first, first + count).
struct RowRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool operator==(const RowRange&) const = default;
};
/// Block `index` of `rows` dealt to `blocks` in contiguous, near-equal parts.
[[nodiscard]] RowRange row_block(std::int64_t rows, int blocks, int index);

/// What one rank does for one parameter. Rows are those of its local slice: all dimensions but the
/// last flattened; the rows of a vector are its elements.
struct RowShard {
  int parameter = 0;  ///< index in ParameterLayout::parameters()
  ReplicaGroup group = ReplicaGroup::dp;
  Member member;                  ///< in that group
  std::int64_t rows = 0;          ///< of the local slice
  std::int64_t row_elements = 0;  ///< of a row of the local slice
  int blocks = 1;                 ///< parts that the rows are dealt to: member.size, or 1
  RowRange held;                  ///< rows whose states this rank holds and updates
  /// Whether the rank's rows stand for this parameter in the global norm and in a checkpoint: true
  /// on exactly one holder of each row. Not on the last stage's copy of a tied table.
  bool counted = true;
  bool tied = false;  ///< the gradient is first summed over both ends of the pipeline

  [[nodiscard]] std::int64_t elements() const { return rows * row_elements; }
  [[nodiscard]] std::int64_t first_element() const { return held.first * row_elements; }
  [[nodiscard]] std::int64_t held_elements() const { return held.count * row_elements; }
  /// Rows of the largest block: what every rank's part is padded to on the wire.
  [[nodiscard]] std::int64_t padded_rows() const { return (rows + blocks - 1) / blocks; }
};

/// Who holds, counts and saves which rows of a rank's parameters. With `zero` the rows of each
/// parameter are dealt to its replica group; otherwise every replica holds all of them and the
/// group's first rank counts. Pure arithmetic: any process can make the plan of any rank.
class ShardPlan {
 public:
  /// `layout` holds the parameters of world rank `rank`; it must outlive the plan.
  ShardPlan(const nn::ParameterLayout& layout, const Layout& ranks, int rank, bool zero);
  /// One rank that holds everything.
  [[nodiscard]] static ShardPlan alone(const nn::ParameterLayout& layout);

  [[nodiscard]] const nn::ParameterLayout& layout() const { return *layout_; }
  /// One entry for each parameter, in the layout's order.
  [[nodiscard]] const std::vector<RowShard>& shards() const { return shards_; }
  [[nodiscard]] bool zero() const { return zero_; }
  [[nodiscard]] int world_size() const { return world_size_; }
  [[nodiscard]] int world_rank() const { return world_rank_; }
  /// Ranks that share a tied table: 2 on the ends of a pipeline, otherwise 1.
  [[nodiscard]] int tied_ranks() const { return tied_ranks_; }

 private:
  const nn::ParameterLayout* layout_;
  std::vector<RowShard> shards_;
  bool zero_ = false;
  int world_size_ = 1, world_rank_ = 0, tied_ranks_ = 1;
};

}  // namespace shoal::parallel
