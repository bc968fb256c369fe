#pragma once
// Shared by the public op and the CUDA back end of route_plan.
#include "shoal/base/math.hpp"
#include "shoal/ops/permute.hpp"

namespace shoal::ops {

inline constexpr std::int64_t kMaxGpuPlanExperts = 1024;  // counters of a block in shared memory
inline constexpr std::int64_t kPlanChunk = 1024;          ///< slots that one block ranks

/// i32 [chunks, E]: how often each expert occurs in each chunk of slots.
inline TensorView route_plan_histograms(const Exec& exec, const RoutePlan& a) {
  const std::int64_t chunks = ceil_div(a.index_TK.elements(), kPlanChunk);
  return scratch(exec, {chunks, a.count_E.dim(0)}, DType::i32);
}

}  // namespace shoal::ops
