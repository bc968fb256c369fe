#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/device/exec.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/parallel/process_groups.hpp"

namespace shoal::parallel {

/// Sums partial gradients over exactly the replica axes of each parameter, in buckets of bounded
/// size, so that afterwards every replica holds the same bits.
class GradientReducer {
 public:
  static constexpr std::int64_t kBucketElements = std::int64_t{1} << 22;  // 16 MiB of f32

  /// `groups` must outlive it. Collectives are made for groups of more than one only.
  GradientReducer(const nn::ParameterLayout& layout, const ProcessGroups& groups,
                  DeviceKind device);

  /// In place on the flat f32 gradient buffer; groups of one cost nothing.
  void reduce(const Exec& exec, const TensorView& gradients) const;
  /// x = sum of x over the data parallel ranks, f32: totals of a step.
  void sum_totals(const Exec& exec, const TensorView& x) const;

  /// Whether the calls may be captured into a CUDA graph: no host takes part.
  [[nodiscard]] bool capturable() const;

  /// Bytes one rank sends in a step by a ring all-reduce: 2 (n - 1) / n of the payload.
  [[nodiscard]] static std::int64_t wire_bytes(const nn::ParameterLayout& layout,
                                               const Layout& ranks);

 private:
  struct Run {
    std::int64_t first = 0;
    std::int64_t count = 0;
    unsigned axes = 0;
  };
  [[nodiscard]] static std::vector<Run> find_runs(const nn::ParameterLayout& layout);

  void sum(const Exec& exec, const TensorView& x, comm::TensorCollectives* group) const;

  std::vector<Run> runs_;
  std::unique_ptr<comm::TensorCollectives> dp_, edp_;  ///< absent in groups of one
};

}  // namespace shoal::parallel
