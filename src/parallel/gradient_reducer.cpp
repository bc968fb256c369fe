#include "shoal/parallel/gradient_reducer.hpp"

#include <algorithm>
#include <span>

#include "shoal/base/error.hpp"

namespace shoal::parallel {
namespace {

/// Axes that matter for the reduction; groups are built along dp and edp.
unsigned reduced_axes(unsigned axes) {
  return axes & (nn::kDp | nn::kEdp);
}

std::int64_t span_of(const nn::StorageMap& map) {
  return (map.parts - 1) * map.stride + map.inner;
}

}  // namespace

std::vector<GradientReducer::Run> GradientReducer::find_runs(const nn::ParameterLayout& layout) {
  std::vector<Run> runs;
  for (const nn::Parameter& p : layout.parameters()) {
    if (p.storage.elements() == 0) continue;
    runs.push_back({.first = layout.gradient_base(p.spec.keep_f32) + p.storage.offset,
                    .count = span_of(p.storage),
                    .axes = reduced_axes(p.spec.replicas)});
  }
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.first < b.first; });
  std::vector<Run> merged;
  for (const Run& run : runs) {
    const bool overlaps = !merged.empty() && run.first < merged.back().first + merged.back().count;
    if (!merged.empty() && merged.back().axes == run.axes) {
      Run& last = merged.back();  // gaps between them are alignment and travel along
      last.count = std::max(last.count, run.first + run.count - last.first);
    } else {
      expect(!overlaps, "fused parameters have different replica axes");
      merged.push_back(run);
    }
  }
  return merged;
}

GradientReducer::GradientReducer(const nn::ParameterLayout& layout, const ProcessGroups& groups)
    : groups_{&groups} {
  for (const Run& run : find_runs(layout)) {
    for (std::int64_t at = 0; at < run.count; at += kBucketElements) {
      buckets_.push_back({.first = run.first + at,
                          .count = std::min(kBucketElements, run.count - at),
                          .axes = run.axes});
    }
  }
}

void GradientReducer::reduce(const Exec& exec, const TensorView& gradients) const {
  for (const Run& bucket : buckets_) {
    const Communicator& group = groups_->replicas(bucket.axes);
    if (group.size() == 1 || exec.is_dry()) continue;
    group.all_reduce(
        std::span{gradients.data<float>() + bucket.first, static_cast<std::size_t>(bucket.count)},
        comm::ReduceOp::sum);
  }
}

std::int64_t GradientReducer::wire_bytes(const nn::ParameterLayout& layout, const Layout& ranks) {
  double bytes = 0.0;
  for (const Run& run : find_runs(layout)) {
    const int n = (run.axes & nn::kEdp) != 0 ? ranks.expert.size("edp") : ranks.dense.size("dp");
    bytes += 2.0 * (n - 1) / n * static_cast<double>(run.count) * sizeof(float);
  }
  return static_cast<std::int64_t>(bytes);
}

}  // namespace shoal::parallel
