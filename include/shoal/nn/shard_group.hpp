#pragma once
#include "shoal/tensor/view.hpp"

namespace shoal::nn {

/// Ranks that share one tensor, as modules see them: `nn` knows no MPI, `parallel` implements this
/// over its communicators. All calls are ordered by the Exec's stream and every rank of the group
/// makes the same ones. Modules skip the calls when size() is one.
class ShardGroup {
 public:
  virtual ~ShardGroup() = default;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual int rank() const = 0;
  /// whole [size * n, ...] = the parts [n, ...] of all ranks, in rank order.
  virtual void all_gather(const Exec& exec, const TensorView& whole,
                          const ConstTensorView& part) = 0;
  /// part [n, ...] = rows of this rank of the sum over ranks of whole [size * n, ...].
  virtual void reduce_scatter(const Exec& exec, const TensorView& part,
                              const ConstTensorView& whole) = 0;
  /// x = sum over ranks of x.
  virtual void all_reduce(const Exec& exec, const TensorView& x) = 0;
};

/// A group of one: nothing to exchange.
class LocalShardGroup final : public ShardGroup {
 public:
  [[nodiscard]] int size() const override { return 1; }
  [[nodiscard]] int rank() const override { return 0; }
  void all_gather(const Exec& exec, const TensorView& whole, const ConstTensorView& part) override;
  void reduce_scatter(const Exec& exec, const TensorView& part,
                      const ConstTensorView& whole) override;
  void all_reduce(const Exec& exec, const TensorView& x) override;
};

/// Sequence parallelism around a tensor-parallel module: its input is gathered over the group, its
/// output holds partial sums that are reduce-scattered. In a group of one the part is the whole.
/// `gather_tokens` takes scratch when it gathers.
[[nodiscard]] ConstTensorView gather_tokens(const Exec& exec, ShardGroup& group,
                                            const ConstTensorView& part);
/// Where partial sums of all tokens go: `part` itself, or scratch for the whole.
[[nodiscard]] TensorView partial_target(const Exec& exec, const ShardGroup& group,
                                        const TensorView& part);
/// Leaves this rank's rows of the sum in `part`; `whole` comes from partial_target().
void scatter_partial(const Exec& exec, ShardGroup& group, const TensorView& part,
                     const ConstTensorView& whole);

}  // namespace shoal::nn
