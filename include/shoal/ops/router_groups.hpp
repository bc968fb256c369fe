#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Counts of whole balance groups from those of their fragments, which lie on several ranks: row i
/// of the result is the sum over all fragments of the group that fragment first + i belongs to.
/// Whole numbers: the same on every rank.
struct RouterGroupCounts {
  TensorView count_FE;              ///< out i32 [F, E]: F fragments of this rank
  ConstTensorView fragment_AE;      ///< i32 [A, E]: all fragments, in token order
  std::int64_t first = 0;           ///< fragment `first` of all is this rank's first
  std::int64_t fragments_each = 1;  ///< fragments of a group; divides A
};
void router_group_counts(const Exec& exec, const RouterGroupCounts& args);

namespace cpu {
void router_group_counts(const Exec& exec, const RouterGroupCounts& args);
}
namespace cuda {
void router_group_counts(const Exec& exec, const RouterGroupCounts& args);
}
}  // namespace shoal::ops
