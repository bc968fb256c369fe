#include "shoal/parallel/shard_plan.hpp"

#include "shoal/base/error.hpp"

namespace shoal::parallel {
namespace {

RowShard make_shard(const nn::ParameterSpec& spec, const Layout& ranks, int rank, bool zero) {
  const Shape local = nn::local_shape(spec.slice);
  const bool vector = local.rank() <= 1;
  const int stage = ranks.dense.coord(rank, "pp");
  RowShard shard{.group = replica_group(spec.replicas),
                 .rows = vector ? local.elements() : local.rows(),
                 .row_elements = vector ? 1 : local.back(),
                 .tied = (spec.replicas & nn::kPp) != 0};
  shard.member = member(ranks, rank, shard.group);
  shard.blocks = zero ? shard.member.size : 1;
  shard.held = row_block(shard.rows, shard.blocks, zero ? shard.member.rank : 0);
  shard.counted = (zero || shard.member.rank == 0) && (!shard.tied || stage == 0);
  return shard;
}

}  // namespace

ReplicaGroup replica_group(unsigned axes) {
  const unsigned rest = axes & ~(static_cast<unsigned>(nn::kPp) | nn::kCp);
  if (rest == nn::kEdp) return ReplicaGroup::edp;
  if (rest == nn::kDp) return ReplicaGroup::dp;
  expect(rest == (nn::kDp | nn::kTp), "no group for these replica axes");
  return ReplicaGroup::stage;
}

Member member(const Layout& ranks, int world_rank, ReplicaGroup group) {
  switch (group) {
    case ReplicaGroup::dp:
      return {ranks.dense.coord(world_rank, "dp"), ranks.dense.size("dp")};
    case ReplicaGroup::edp:
      return {ranks.expert.coord(world_rank, "edp"), ranks.expert.size("edp")};
    case ReplicaGroup::stage:
      break;
  }
  const int size = ranks.dense.size() / ranks.dense.size("pp");
  return {world_rank % size, size};  // pp is the slowest axis
}

RowRange row_block(std::int64_t rows, int blocks, int index) {
  const std::int64_t begin = rows * index / blocks, end = rows * (index + 1) / blocks;
  return {.first = begin, .count = end - begin};
}

ShardPlan::ShardPlan(const nn::ParameterLayout& layout, const Layout& ranks, int rank, bool zero)
    : layout_{&layout}, zero_{zero}, world_size_{ranks.dense.size()}, world_rank_{rank} {
  expect(rank >= 0 && rank < world_size_, "a shard plan is made for a rank of the layout");
  const int stage = ranks.dense.coord(rank, "pp"), stages = ranks.dense.size("pp");
  if (stages > 1 && (stage == 0 || stage == stages - 1)) tied_ranks_ = 2;
  for (const nn::Parameter& p : layout.parameters()) {
    shards_.push_back(make_shard(p.spec, ranks, rank, zero));
    shards_.back().parameter = static_cast<int>(shards_.size()) - 1;
  }
}

ShardPlan ShardPlan::alone(const nn::ParameterLayout& layout) {
  return {layout, make_layout({}, 1), 0, true};
}

}  // namespace shoal::parallel
