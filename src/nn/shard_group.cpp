#include "shoal/nn/shard_group.hpp"

namespace shoal::nn {

void LocalShardGroup::all_gather(const Exec& exec, const TensorView& whole,
                                 const ConstTensorView& part) {
  copy(exec, whole.bytes_begin(), part.bytes_begin(), part.bytes());
}
void LocalShardGroup::reduce_scatter(const Exec& exec, const TensorView& part,
                                     const ConstTensorView& whole) {
  copy(exec, part.bytes_begin(), whole.bytes_begin(), part.bytes());
}
void LocalShardGroup::all_reduce(const Exec&, const TensorView&) {}

namespace {

TensorView whole_scratch(const Exec& exec, const ShardGroup& group, const ConstTensorView& part) {
  Shape shape{part.dim(0) * group.size()};
  for (int i = 1; i < part.shape().rank(); ++i) shape.push_back(part.dim(i));
  return scratch(exec, shape, part.dtype());
}

}  // namespace

ConstTensorView gather_tokens(const Exec& exec, ShardGroup& group, const ConstTensorView& part) {
  if (group.size() == 1) return part;
  const TensorView whole = whole_scratch(exec, group, part);
  group.all_gather(exec, whole, part);
  return whole;
}

TensorView partial_target(const Exec& exec, const ShardGroup& group, const TensorView& part) {
  return group.size() == 1 ? part : whole_scratch(exec, group, part);
}

void scatter_partial(const Exec& exec, ShardGroup& group, const TensorView& part,
                     const ConstTensorView& whole) {
  if (group.size() > 1) group.reduce_scatter(exec, part, whole);
}

}  // namespace shoal::nn
