#include "shoal/parallel/gradient_reducer.hpp"

#include <algorithm>

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

GradientReducer::GradientReducer(const nn::ParameterLayout& layout, const ProcessGroups& groups,
                                 DeviceKind device)
    : runs_{find_runs(layout)} {
  if (groups.dp().size() > 1) dp_ = comm::make_host_collectives(groups.dp(), device);
  if (groups.edp().size() > 1) edp_ = comm::make_host_collectives(groups.edp(), device);
}

void GradientReducer::reduce(const Exec& exec, const TensorView& gradients) const {
  for (const Run& run : runs_) {
    const bool experts = (run.axes & nn::kEdp) != 0;
    sum(exec, gradients.rows(run.first, run.count), experts ? edp_.get() : dp_.get());
  }
}

bool GradientReducer::capturable() const {
  return (dp_ == nullptr || dp_->capturable()) && (edp_ == nullptr || edp_->capturable());
}

void GradientReducer::sum_totals(const Exec& exec, const TensorView& x) const {
  sum(exec, x.reshape({x.elements()}), dp_.get());
}

void GradientReducer::sum(const Exec& exec, const TensorView& x,
                          comm::TensorCollectives* group) const {
  if (group == nullptr) return;
  for (std::int64_t at = 0; at < x.elements(); at += kBucketElements) {
    group->all_reduce(exec, x.rows(at, std::min(kBucketElements, x.elements() - at)),
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
