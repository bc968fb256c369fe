#pragma once
#include <cblas.h>

#include <cmath>
#include <cstdint>

#include "ops/convert_cpu.hpp"
#include "shoal/ops/attention.hpp"

namespace shoal::ops::cpu {

// A tile of scores is kTileQueries x kTileKeys: both fit a second-level cache with their operands.
constexpr std::int64_t kTileQueries = 64;
constexpr std::int64_t kTileKeys = 256;

/// fp32 buffers of one thread in the forward pass.
struct ForwardTile {
  float *query, *key, *value, *score, *sum, *maximum, *total;
  ForwardTile(float* base, std::int64_t d)
      : query{base},
        key{query + kTileQueries * d},
        value{key + kTileKeys * d},
        score{value + kTileKeys * d},
        sum{score + kTileQueries * kTileKeys},
        maximum{sum + kTileQueries * d},
        total{maximum + kTileQueries} {}
  static std::int64_t floats(std::int64_t d) {
    return 2 * (kTileQueries + kTileKeys) * d + kTileQueries * (kTileKeys + 2);
  }
};

/// fp32 buffers of one thread in the backward pass; dkey and dvalue hold a whole segment.
struct BackwardTile {
  float *query, *key, *value, *dout, *score, *dscore, *dquery, *delta, *dkey, *dvalue;
  BackwardTile(float* base, std::int64_t d, std::int64_t tokens)
      : query{base},
        key{query + kTileQueries * d},
        value{key + kTileKeys * d},
        dout{value + kTileKeys * d},
        score{dout + kTileQueries * d},
        dscore{score + kTileQueries * kTileKeys},
        dquery{dscore + kTileQueries * kTileKeys},
        delta{dquery + kTileQueries * d},
        dkey{delta + kTileQueries},
        dvalue{dkey + tokens * d} {}
  static std::int64_t floats(std::int64_t d, std::int64_t tokens) {
    return (3 * kTileQueries + 2 * kTileKeys + 2 * tokens) * d + kTileQueries * (2 * kTileKeys + 1);
  }
};

/// Rows of one head.
template <class Elem, class View>
[[nodiscard]] auto head_rows(const BasicHeads<View>& heads, std::int64_t head) {
  auto* base = heads.rows.template data<Elem>() + heads.first + head * heads.head_dim;
  return Rows<std::remove_pointer_t<decltype(base)>>{base, heads.rows.dim(1)};
}
template <class Elem>
[[nodiscard]] Rows<Elem> rows_from(Rows<Elem> rows, std::int64_t first) {
  return {rows.row(first), rows.stride};
}

/// Which keys the queries of a call see: query row t stands at key position first + t and sees
/// [start[t], first + t], start null meaning 0. Group j of row t is on iff active is null or
/// j < active[t].
struct Visibility {
  const std::int32_t* start = nullptr;
  const std::int32_t* active = nullptr;
  std::int64_t first = 0;

  [[nodiscard]] std::int64_t begin(std::int64_t t) const { return start ? start[t] : 0; }
  [[nodiscard]] std::int64_t end(std::int64_t t) const { return first + t + 1; }
  [[nodiscard]] bool on(std::int64_t t, std::int64_t group) const {
    return !active || group < active[t];
  }
  [[nodiscard]] bool any_on(std::int64_t t, std::int64_t count, std::int64_t group) const {
    for (std::int64_t r = 0; r < count; ++r) {
      if (on(t + r, group)) return true;
    }
    return false;
  }
};
[[nodiscard]] inline const std::int32_t* ints_or_null(const ConstTensorView& view) {
  return view.absent() ? nullptr : view.data<std::int32_t>();
}

struct Matmul {
  CBLAS_TRANSPOSE a_form, b_form;
  std::int64_t rows, columns, inner;
  float scale;
  Panel a, b;
  float beta;
  float* c;
  std::int64_t c_stride;
};
inline void matmul(const Matmul& m) {
  const auto i = [](std::int64_t n) { return static_cast<blasint>(n); };
  cblas_sgemm(CblasRowMajor, m.a_form, m.b_form, i(m.rows), i(m.columns), i(m.inner), m.scale,
              m.a.data, i(m.a.stride), m.b.data, i(m.b.stride), m.beta, m.c, i(m.c_stride));
}

}  // namespace shoal::ops::cpu
