#include "shoal/ops/packed_runs.hpp"

#include <algorithm>

namespace shoal::ops {
namespace {

void expect_runs(const CopyRuns& a, Where at = Where::current()) {
  expect_floating(a.to, "to", at);
  expect_floating(a.from, "from", at);
  expect_dtype(a.runs, DType::u8, "runs", at);
  expect(a.runs.elements() % static_cast<std::int64_t>(sizeof(PackedRun)) == 0,
         "runs: not a whole number of PackedRun", at);
}

}  // namespace

std::vector<PackedRun> cut_runs(std::span<const PackedRun> runs) {
  std::vector<PackedRun> pieces;
  for (const PackedRun& run : runs) {
    for (std::int64_t at = 0; at < run.count; at += kRunElements) {
      pieces.push_back({.flat = run.flat + at,
                        .packed = run.packed + at,
                        .count = std::min(kRunElements, run.count - at)});
    }
  }
  return pieces;
}

void pack_runs(const Exec& exec, const CopyRuns& a) {
  expect_runs(a);
  if (exec.is_dry() || a.runs.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::pack_runs(exec, a);
  }
  cpu::pack_runs(exec, a);
}

void unpack_runs(const Exec& exec, const CopyRuns& a) {
  expect_runs(a);
  if (exec.is_dry() || a.runs.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::unpack_runs(exec, a);
  }
  cpu::unpack_runs(exec, a);
}

}  // namespace shoal::ops
