#include "shoal/nn/parameter_runs.hpp"

#include <algorithm>

namespace shoal::nn {
namespace {

bool is_whole(const SliceDim& dim, std::int64_t size) {
  return dim.size() == size && dim.start == 0 && (dim.count == 1 || dim.stride == dim.block);
}

std::int64_t global_coordinate(const SliceDim& dim, std::int64_t local) {
  return dim.start + local / dim.block * dim.stride + local % dim.block;
}

}  // namespace

std::vector<StorageRun> storage_runs(const StorageMap& map, std::int64_t first,
                                     std::int64_t count) {
  std::vector<StorageRun> out;
  for (std::int64_t at = first; at < first + count;) {
    const std::int64_t part = at / map.inner;
    const std::int64_t within = at % map.inner;
    const std::int64_t n = std::min(map.inner - within, first + count - at);
    const std::int64_t offset = map.offset + part * map.stride + within;
    if (!out.empty() && out.back().offset + out.back().count == offset) {
      out.back().count += n;
    } else {
      out.push_back({.local = at, .offset = offset, .count = n});
    }
    at += n;
  }
  return out;
}

GlobalRun global_run(const ParameterSpec& spec, std::int64_t local) {
  GlobalRun run;
  std::int64_t local_stride = 1, global_stride = 1;
  bool whole_so_far = true;  // all faster dimensions are whole: runs go on across their ends
  for (int i = spec.shape.rank() - 1; i >= 0; --i) {
    const SliceDim& dim = spec.slice[static_cast<std::size_t>(i)];
    const std::int64_t at = local / local_stride % dim.size();
    run.global += global_coordinate(dim, at) * global_stride;
    if (whole_so_far) {
      const bool whole_dim = is_whole(dim, spec.shape[i]);
      const std::int64_t left = whole_dim ? dim.size() - at : dim.block - at % dim.block;
      run.count = left * local_stride - local % local_stride;
      whole_so_far = whole_dim;
    }
    local_stride *= dim.size();
    global_stride *= spec.shape[i];
  }
  if (spec.shape.rank() == 0) run.count = 1;
  return run;
}

}  // namespace shoal::nn
