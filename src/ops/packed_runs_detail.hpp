#pragma once
#include "shoal/ops/packed_runs.hpp"

namespace shoal::ops {

/// A table of runs with the direction in which they are copied.
struct RunWork {
  const PackedRun* table;
  std::int64_t runs;
  bool pack;
};
inline RunWork run_work(const CopyRuns& a, bool pack) {
  return {.table = reinterpret_cast<const PackedRun*>(a.runs.data<std::uint8_t>()),
          .runs = a.runs.elements() / static_cast<std::int64_t>(sizeof(PackedRun)),
          .pack = pack};
}
constexpr std::int64_t target_of(const RunWork& work, const PackedRun& run) {
  return work.pack ? run.packed : run.flat;
}
constexpr std::int64_t source_of(const RunWork& work, const PackedRun& run) {
  return work.pack ? run.flat : run.packed;
}

}  // namespace shoal::ops
