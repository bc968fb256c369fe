#include <algorithm>

#include "ops/convert_cpu.hpp"
#include "ops/product_block_cpu.hpp"
#include "ops/product_pack_cpu.hpp"
#include "ops/product_tile_cpu.hpp"
#include "shoal/base/math.hpp"

namespace shoal::ops::cpu {
namespace {

// The inner block: the packed columns of b (512 KiB) stay in a second-level cache, 32 rows of a and
// 32 columns of b nearly fit the first.
constexpr std::int64_t kBlockTiles = 16;
constexpr std::int64_t kPanelsOfB = kTileColumns / kPanel * kBlockTiles * kTileWords;
constexpr std::int64_t kPanelsOfA = kBlock / kPanel * kBlockTiles * kTileWords;

struct Buffers {
  float *b, *a, *block, *sums;
  explicit Buffers(float* base)
      : b{base}, a{b + kPanelsOfB}, block{a + kPanelsOfA}, sums{block + kBlock * kBlock} {}
  static constexpr std::int64_t kFloats =
      kPanelsOfB + kPanelsOfA + kBlock * kBlock + kTileRows * kTileColumns;
};

struct Kernel {
  BlockKernel run;
  Word word;
};
Kernel kernel_of(ProductKernel kernel) {
  if (kernel == ProductKernel::amx) return {block_amx, Word::bf16_pair};
  if (kernel == ProductKernel::avx512_bf16) return {block_avx512_bf16, Word::bf16_pair};
  return {block_avx512, Word::f32};
}

/// A part of the inner index.
struct Inner {
  std::int64_t first, count;
};

PackCall pack_call(const ProductForm& form, Word word, const std::byte* data, std::int64_t stride,
                   bool inner_first, std::int64_t outer, const Inner& inner) {
  const std::int64_t offset =
      inner_first ? inner.first * stride + outer : outer * stride + inner.first;
  return {.source = data + offset * size_of(form.elem),
          .stride = stride,
          .inner_first = inner_first,
          .inner = inner.count,
          .elem = form.elem,
          .word = word};
}

/// Where the sums of a block go.
template <class C>
struct Target {
  Rows<C> c;         // of the tile
  Rows<float> sums;  // of the inner blocks so far
  bool is_first, is_last, add;
};

template <class C>
void store_block(const Target<C>& t, float* block, const Tile& at) {
  for (std::int64_t r = 0; r < at.rows; ++r) {
    float* sum = block + r * kBlock;
    float* before = t.sums.row(at.row + r) + at.column;
    C* c = t.c.row(at.row + r) + at.column;
    if (!t.is_first) {
#pragma omp simd
      for (std::int64_t j = 0; j < at.columns; ++j) sum[j] += before[j];
    }
    if (!t.is_last) {
      std::copy_n(sum, at.columns, before);
    } else if (t.add) {
#pragma omp simd
      for (std::int64_t j = 0; j < at.columns; ++j) c[j] = from_float<C>(to_float(c[j]) + sum[j]);
    } else {
      from_floats(c, sum, at.columns);
    }
  }
}

/// One inner block of a tile.
template <class C>
void run_inner(const Product& p, const ProductForm& form, const Tile& tile, const Inner& inner,
               const Kernel& kernel, const Buffers& buffers, const Target<C>& target) {
  const std::int64_t tiles = ceil_div(inner.count, kPanel * elements_of(kernel.word));
  PackCall b = pack_call(form, kernel.word, p.b, form.b_transposed ? p.inner : p.columns,
                         !form.b_transposed, tile.column, inner);
  b.outer = tile.columns;
  b.line = Line::outer;
  pack_panels(buffers.b, b);
  for (std::int64_t r = 0; r < tile.rows; r += kBlock) {
    PackCall a = pack_call(form, kernel.word, p.a, form.a_transposed ? p.rows : p.inner,
                           form.a_transposed, tile.row + r, inner);
    a.outer = std::min(kBlock, tile.rows - r);
    pack_panels(buffers.a, a);
    for (std::int64_t j = 0; j < tile.columns; j += kBlock) {
      const Tile block{r, j, a.outer, std::min(kBlock, tile.columns - j)};
      kernel.run({.a = buffers.a,
                  .b = buffers.b + j / kPanel * tiles * kTileWords,
                  .tiles = tiles,
                  .rows = block.rows,
                  .columns = block.columns,
                  .sums = buffers.block});
      store_block(target, buffers.block, block);
    }
  }
}

template <class C>
void run_tile(const Product& p, const ProductForm& form, const Tile& tile, const Kernel& kernel,
              const Buffers& buffers) {
  const Rows<C> c{reinterpret_cast<C*>(p.c) + tile.row * p.columns + tile.column, p.columns};
  const Rows<float> sums{buffers.sums, tile.columns};
  const std::int64_t step = kBlockTiles * kPanel * elements_of(kernel.word);
  std::int64_t k = 0;
  do {  // once for an empty inner index: sums of zero
    run_inner<C>(p, form, tile, {k, std::min(step, p.inner - k)}, kernel, buffers,
                 {.c = c,
                  .sums = sums,
                  .is_first = k == 0,
                  .is_last = k + step >= p.inner,
                  .add = form.accumulate == Accumulate::add});
    k += step;
  } while (k < p.inner);
}

}  // namespace

std::int64_t packed_tile_floats() {
  return Buffers::kFloats;
}

void run_packed_tile(const Product& p, const ProductForm& form, const Tile& tile, float* scratch,
                     ProductKernel kernel) {
  const AmxTiles amx{kernel == ProductKernel::amx};
  const Buffers buffers{scratch};
  if (form.c == DType::f32) {
    run_tile<float>(p, form, tile, kernel_of(kernel), buffers);
  } else if (form.c == DType::bf16) {
    run_tile<Bf16>(p, form, tile, kernel_of(kernel), buffers);
  } else {
    run_tile<Half>(p, form, tile, kernel_of(kernel), buffers);
  }
}

}  // namespace shoal::ops::cpu
