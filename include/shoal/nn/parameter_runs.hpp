#pragma once
#include <vector>

#include "shoal/nn/parameter.hpp"

/// Where consecutive local elements of a parameter lie, in memory and in the global tensor.
namespace shoal::nn {

/// Local elements [local, local + count) of a parameter lie at [offset, ...) of its flat buffer.
struct StorageRun {
  std::int64_t local = 0;
  std::int64_t offset = 0;
  std::int64_t count = 0;
};
/// Runs of the local elements [first, first + count), in order; neighbours in memory are merged.
[[nodiscard]] std::vector<StorageRun> storage_runs(const StorageMap& map, std::int64_t first,
                                                   std::int64_t count);

/// Consecutive local elements whose row-major global indices are consecutive too.
struct GlobalRun {
  std::int64_t global = 0;
  std::int64_t count = 0;
};
/// The longest one that starts at element `local` of the slice.
[[nodiscard]] GlobalRun global_run(const ParameterSpec& spec, std::int64_t local);

}  // namespace shoal::nn
