#pragma once
#include <cstdint>
#include <vector>

#include "shoal/ops/packed_runs.hpp"
#include "shoal/parallel/shard_plan.hpp"

namespace shoal::parallel {

/// Rows [first_row, first_row + rows) of every block of one parameter, inside a bucket.
struct BucketPart {
  int parameter = 0;
  std::int64_t first_row = 0;  ///< inside each block
  std::int64_t rows = 0;       ///< padded: a block may have fewer
  std::int64_t offset = 0;     ///< element inside the bucket's block
};

/// How gradients travel.
struct ReduceOptions {
  DType wire = DType::f32;  ///< f32 or bf16: rounded once, summed in fp32, the sum rounded again
  std::int64_t bucket_elements = std::int64_t{1} << 22;  ///< bounds memory and messages
  /// Reduce a bucket as soon as its gradients are final, beside the backward pass. Changes no bits.
  bool overlap = true;        ///< in host memory
  bool overlap_nccl = false;  ///< through NCCL
};

[[nodiscard]] ReduceOptions reduce_options(const ParallelConfig& config);

/// What one collective moves: parts of several parameters with the same group and flat buffer,
/// packed as [blocks][block], block r for the r-th rank of the group. Without ZeRO one block holds
/// everything and is all-reduced.
struct Bucket {
  ReplicaGroup group = ReplicaGroup::dp;
  int blocks = 1;
  int ranks = 1;  ///< size of the group
  bool keep_f32 = false;
  bool tied = false;
  std::int64_t block = 0;  ///< elements of one block, padding included
  int first_tensor = 0;    ///< lowest handle among its parameters: the last to become final
  std::vector<BucketPart> parts;
  [[nodiscard]] std::int64_t elements() const { return blocks * block; }
};

/// Buckets of at most `max_elements` (or one row a block), last layers first, tied tables last. The
/// same on all ranks of each group. Parameters of groups of one need none.
[[nodiscard]] std::vector<Bucket> make_buckets(const ShardPlan& plan, std::int64_t max_elements);

/// Where the elements of blocks [first_block, first_block + blocks) lie in the flat buffer (elem or
/// f32) and in a packed buffer that starts with first_block. Padding belongs to no run.
[[nodiscard]] std::vector<ops::PackedRun> bucket_runs(const ShardPlan& plan, const Bucket& bucket,
                                                      int first_block, int blocks);

/// Payload of one step's collectives as comm::Journal counts it on this rank.
struct ReduceTraffic {
  std::int64_t reduce_scatter = 0;  ///< bytes given to reduce_scatter
  std::int64_t all_gather = 0;      ///< bytes given to all_gather
  std::int64_t all_reduce = 0;      ///< bytes given to all_reduce, tied tables included
  /// What a rank sends when a reduce-scatter or all-gather of n ranks moves (n - 1) / n of the
  /// total and an all-reduce twice that.
  double sent = 0.0;
};
/// `elem`: working precision of the weights.
[[nodiscard]] ReduceTraffic reduce_traffic(const ShardPlan& plan, const ReduceOptions& options,
                                           DType elem);

}  // namespace shoal::parallel
