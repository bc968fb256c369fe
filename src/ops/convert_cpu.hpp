#pragma once
#include <cstdint>
#include <type_traits>

#include "shoal/tensor/dtype.hpp"

namespace shoal::ops::cpu {

/// A block of rows as BLAS reads it.
struct Panel {
  const float* data = nullptr;
  std::int64_t stride = 0;
};

/// Rows in elem storage: row r starts at data + r * stride.
template <class Elem>
struct Rows {
  Elem* data = nullptr;
  std::int64_t stride = 0;
  [[nodiscard]] Elem* row(std::int64_t r) const { return data + r * stride; }
};

template <class Elem>
inline void to_floats(float* target, const Elem* source, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) target[i] = to_float(source[i]);
}
template <class Elem>
inline void from_floats(Elem* target, const float* source, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) target[i] = from_float<Elem>(source[i]);
}

/// `count` rows of `columns` values as fp32: in place for f32, else converted into `buffer`.
template <class Elem>
[[nodiscard]] Panel float_panel(Rows<const Elem> rows, std::int64_t count, std::int64_t columns,
                                float* buffer) {
  if constexpr (std::is_same_v<Elem, float>) {
    return {rows.data, rows.stride};
  } else {
    for (std::int64_t r = 0; r < count; ++r) {
      to_floats(buffer + r * columns, rows.row(r), columns);
    }
    return {buffer, columns};
  }
}

}  // namespace shoal::ops::cpu
