#include "shoal/parallel/comm_shard_group.hpp"

#include "shoal/base/error.hpp"

namespace shoal::parallel {

void CommShardGroup::expect_whole(const ConstTensorView& whole, const ConstTensorView& part) const {
  expect_same_dtype(part, whole, "whole");
  bool fits = whole.shape().rank() == part.shape().rank() && whole.dim(0) == size() * part.dim(0);
  for (int i = 1; fits && i < part.shape().rank(); ++i) fits = whole.dim(i) == part.dim(i);
  expect(fits, "whole must hold the parts of all ranks along its first dimension");
}

void CommShardGroup::all_gather(const Exec& exec, const TensorView& whole,
                                const ConstTensorView& part) {
  expect_whole(whole, part);
  collectives_->all_gather(exec, {.send = part, .recv = whole});
}

void CommShardGroup::reduce_scatter(const Exec& exec, const TensorView& part,
                                    const ConstTensorView& whole) {
  expect_whole(whole, part);
  expect_floating(part, "part");
  collectives_->reduce_scatter(exec, {.send = whole, .recv = part, .op = comm::ReduceOp::sum});
}

void CommShardGroup::all_reduce(const Exec& exec, const TensorView& x) {
  collectives_->all_reduce(exec, x, comm::ReduceOp::sum);
}

}  // namespace shoal::parallel
