#include <cblas.h>

#include <algorithm>

#include "ops/convert_cpu.hpp"
#include "ops/product_tile_cpu.hpp"

namespace shoal::ops::cpu {
namespace {

// The inner block that is converted at once: the fp32 panels of a tile spill little from a
// second-level cache. f32 needs none.
constexpr std::int64_t kInnerBlock = 128;
constexpr std::int64_t kPanelsOfA = kTileRows * kInnerBlock;
constexpr std::int64_t kPanelsOfB = kTileColumns * kInnerBlock;

CBLAS_TRANSPOSE transpose(bool transposed) {
  return transposed ? CblasTrans : CblasNoTrans;
}

struct SgemmBlock {
  Panel a, b;
  std::int64_t rows, columns, inner;
  float beta;
  float* c;
  std::int64_t c_stride;
};

void sgemm(const ProductForm& form, const SgemmBlock& s) {
  const auto i = [](std::int64_t n) { return static_cast<blasint>(n); };
  cblas_sgemm(CblasRowMajor, transpose(form.a_transposed), transpose(form.b_transposed), i(s.rows),
              i(s.columns), i(s.inner), 1.0F, s.a.data, i(s.a.stride), s.b.data, i(s.b.stride),
              s.beta, s.c, i(s.c_stride));
}

/// Rows of op(x) [outer, inner] for outer indices from `outer` and inner indices from `k`.
template <class Elem>
Rows<const Elem> operand(const std::byte* data, std::int64_t stride, bool inner_first,
                         std::int64_t outer, std::int64_t k) {
  const auto* x = reinterpret_cast<const Elem*>(data);
  return {x + (inner_first ? k * stride + outer : outer * stride + k), stride};
}

template <class C>
void store_tile(Rows<C> c, const float* sum, const Tile& t, bool add) {
  for (std::int64_t r = 0; r < t.rows; ++r) {
    C* target = c.row(r);
    const float* source = sum + r * t.columns;
    for (std::int64_t j = 0; j < t.columns; ++j) {
      target[j] = from_float<C>(add ? to_float(target[j]) + source[j] : source[j]);
    }
  }
}

/// All inner blocks of one tile, into fp32 rows.
template <class Elem>
void sum_tile(const Product& p, const ProductForm& form, const Tile& t, Rows<float> c, float beta,
              float* panels) {
  const std::int64_t a_stride = form.a_transposed ? p.rows : p.inner;
  const std::int64_t b_stride = form.b_transposed ? p.inner : p.columns;
  const std::int64_t block = std::is_same_v<Elem, float> ? p.inner : kInnerBlock;
  for (std::int64_t k = 0; k < p.inner; k += block) {
    const std::int64_t inner = std::min(block, p.inner - k);
    const auto a = operand<Elem>(p.a, a_stride, form.a_transposed, t.row, k);
    const auto b = operand<Elem>(p.b, b_stride, !form.b_transposed, t.column, k);
    const Panel a_panel = form.a_transposed ? float_panel(a, inner, t.rows, panels)
                                            : float_panel(a, t.rows, inner, panels);
    float* b_buffer = panels + kPanelsOfA;
    const Panel b_panel = form.b_transposed ? float_panel(b, t.columns, inner, b_buffer)
                                            : float_panel(b, inner, t.columns, b_buffer);
    sgemm(form, {.a = a_panel,
                 .b = b_panel,
                 .rows = t.rows,
                 .columns = t.columns,
                 .inner = inner,
                 .beta = k == 0 ? beta : 1.0F,
                 .c = c.data,
                 .c_stride = c.stride});
  }
}

template <class Elem, class C>
void run_tile(const Product& p, const ProductForm& form, const Tile& t, float* panels) {
  const bool add = form.accumulate == Accumulate::add;
  const Rows<C> c{reinterpret_cast<C*>(p.c) + t.row * p.columns + t.column, p.columns};
  if (p.inner == 0) {
    for (std::int64_t r = 0; r < t.rows && !add; ++r) {
      std::fill_n(c.row(r), t.columns, from_float<C>(0.0F));
    }
    return;
  }
  if constexpr (std::is_same_v<C, float>) {
    sum_tile<Elem>(p, form, t, c, add ? 1.0F : 0.0F, panels);
  } else {
    float* sum = panels + kPanelsOfA + kPanelsOfB;
    sum_tile<Elem>(p, form, t, {sum, t.columns}, 0.0F, panels);
    store_tile(c, sum, t, add);
  }
}

template <class Elem>
void run_tile_to(const Product& p, const ProductForm& form, const Tile& t, float* panels) {
  if (form.c == DType::f32) {
    run_tile<Elem, float>(p, form, t, panels);
  } else {
    run_tile<Elem, Elem>(p, form, t, panels);
  }
}

}  // namespace

std::int64_t blas_tile_floats() {
  return kPanelsOfA + kPanelsOfB + kTileRows * kTileColumns;
}

void run_blas_tile(const Product& p, const ProductForm& form, const Tile& tile, float* scratch) {
  with_elem(form.elem, [&](auto elem) { run_tile_to<decltype(elem)>(p, form, tile, scratch); });
}

}  // namespace shoal::ops::cpu
