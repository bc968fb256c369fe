#pragma once
#include <algorithm>
#include <cstdint>

#include "shoal/base/math.hpp"
#include "shoal/ops/common.hpp"

/// Sums over rows in two stages and a fixed order, without atomics: the rows are cut into parts by
/// their number alone (never by the number of threads or multiprocessors), each part is summed on
/// its own, then the parts. The first stage belongs to each op.
namespace shoal::ops {

inline constexpr std::int64_t kRowsPerPart = 32;
inline constexpr std::int64_t kMaxParts = 512;

/// Parts that `rows` are cut into; 0 for no rows.
[[nodiscard]] inline std::int64_t part_count(std::int64_t rows) {
  return std::min(ceil_div(rows, kRowsPerPart), kMaxParts);
}
/// Rows of every part; the last may be shorter (or even empty).
[[nodiscard]] inline std::int64_t part_size(std::int64_t rows) {
  return rows == 0 ? 0 : ceil_div(rows, part_count(rows));
}
/// Memory for the parts of a sum over `rows`: f32 [part_count(rows), columns].
[[nodiscard]] inline TensorView allocate_parts(const Store& store, std::int64_t rows,
                                               std::int64_t columns) {
  return allocate(store, {part_count(rows), columns}, DType::f32);
}
/// The same in scratch. Public ops take it before they return on a dry Exec, so that a plan counts
/// it.
[[nodiscard]] inline TensorView scratch_parts(const Exec& exec, std::int64_t rows,
                                              std::int64_t columns) {
  return allocate_parts(exec.scratch(), rows, columns);
}

/// The second stage: out_C (+)= sum over p of part_PC[p], f32. No parts: zeros, or out as it is.
void sum_parts(const Exec& exec, const TensorView& out_C, const ConstTensorView& part_PC,
               Accumulate accumulate);

namespace cpu {
void sum_parts(const TensorView& out_C, const ConstTensorView& part_PC, Accumulate accumulate);
}
namespace cuda {
void sum_parts(const Exec& exec, const TensorView& out_C, const ConstTensorView& part_PC,
               Accumulate accumulate);
}
}  // namespace shoal::ops
