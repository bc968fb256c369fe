#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Consecutive elements that lie at `flat` of one buffer and at `packed` of another.
struct PackedRun {
  std::int64_t flat = 0;
  std::int64_t packed = 0;
  std::int64_t count = 0;  ///< at most kRunElements in a table
};
inline constexpr std::int64_t kRunElements = 16384;
/// Runs in pieces of at most kRunElements, for a table that a kernel shares out.
[[nodiscard]] std::vector<PackedRun> cut_runs(std::span<const PackedRun> runs);

/// Copies every run of a table; elements outside of them stay. Both of f32, bf16 or f16; different
/// dtypes convert, rounding to nearest. Runs do not overlap in the destination.
struct CopyRuns {
  TensorView to;         ///< [N]
  ConstTensorView from;  ///< [M]
  ConstTensorView runs;  ///< u8, PackedRun
};
void pack_runs(const Exec& exec, const CopyRuns& args);    ///< to is packed, from is flat
void unpack_runs(const Exec& exec, const CopyRuns& args);  ///< to is flat, from is packed

namespace cpu {
void pack_runs(const Exec& exec, const CopyRuns& args);
void unpack_runs(const Exec& exec, const CopyRuns& args);
}  // namespace cpu
namespace cuda {
void pack_runs(const Exec& exec, const CopyRuns& args);
void unpack_runs(const Exec& exec, const CopyRuns& args);
}  // namespace cuda
}  // namespace shoal::ops
