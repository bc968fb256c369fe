#include "ops/product_cpu.hpp"

#include <cblas.h>
#include <omp.h>

#include <algorithm>
#include <vector>

#include "ops/convert_cpu.hpp"
#include "shoal/base/math.hpp"

namespace shoal::ops::cpu {
namespace {

// A tile of c and the inner block that is converted at once: the three fp32 panels stay in a
// second-level cache of 1 MiB or spill little, and a converted value meets at least 256 products.
constexpr std::int64_t kTileRows = 128;
constexpr std::int64_t kTileColumns = 512;
constexpr std::int64_t kInnerBlock = 256;
constexpr std::int64_t kScratchFloats =
    kTileRows * kInnerBlock + kTileColumns * kInnerBlock + kTileRows * kTileColumns;
// f32 needs no panels: wider tiles, so that BLAS packs b less often.
constexpr std::int64_t kTileRowsF32 = 256;

struct Tile {
  std::int64_t row, column, rows, columns;
};

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
    float* b_buffer = panels + kTileRows * kInnerBlock;
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
    float* sum = panels + (kTileRows + kTileColumns) * kInnerBlock;
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

TensorView product_scratch(const Exec& exec, DType elem) {
  if (elem == DType::f32) return {};
  return scratch(exec, {omp_get_max_threads(), kScratchFloats}, DType::f32);
}

void run_products(std::span<const Product> products, const ProductForm& form,
                  const TensorView& scratch) {
  const std::int64_t tile_rows = form.elem == DType::f32 ? kTileRowsF32 : kTileRows;
  const auto across = [](const Product& p) { return ceil_div(p.columns, kTileColumns); };
  std::vector<std::int64_t> first_tile{0};  // of each product, and the end
  for (const Product& p : products) {
    first_tile.push_back(first_tile.back() + ceil_div(p.rows, tile_rows) * across(p));
  }
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < first_tile.back(); ++i) {
    const auto next = std::upper_bound(first_tile.begin(), first_tile.end(), i);
    const Product& p = products[static_cast<std::size_t>(next - first_tile.begin() - 1)];
    const std::int64_t index = i - *(next - 1);
    const std::int64_t row = index / across(p) * tile_rows;
    const std::int64_t column = index % across(p) * kTileColumns;
    const Tile tile{row, column, std::min(tile_rows, p.rows - row),
                    std::min(kTileColumns, p.columns - column)};
    float* panels =
        scratch.absent() ? nullptr : scratch.data<float>() + omp_get_thread_num() * kScratchFloats;
    with_elem(form.elem, [&](auto elem) { run_tile_to<decltype(elem)>(p, form, tile, panels); });
  }
}

}  // namespace shoal::ops::cpu
