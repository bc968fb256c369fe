#include <algorithm>

#include "ops/product_block_cpu.hpp"
#include "ops/product_pack_cpu.hpp"
#include "ops/product_tile_cpu.hpp"
#include "shoal/base/math.hpp"

namespace shoal::ops::cpu {
namespace {

// The inner block: both packed operands (768 KiB each) stay in a second-level cache.
constexpr std::int64_t kBlockTiles = 24;
constexpr std::int64_t kPanelsOfA = kTileRows / kPanel * kBlockTiles * kTileWords;
constexpr std::int64_t kPanelsOfB = kTileColumns / kPanel * kBlockTiles * kTileWords;

/// `sums` keeps what earlier inner blocks gave to a tile of bf16 or f16; c itself does for f32.
struct Buffers {
  float *a, *b, *block, *sums;
  explicit Buffers(float* base)
      : a{base},
        b{a + kPanelsOfA},
        block{b + kPanelsOfB},
        sums{block + kBlockRows * kBlockColumns} {}
  static constexpr std::int64_t kFloats =
      kPanelsOfA + kPanelsOfB + kBlockRows * kBlockColumns + kTileRows * kTileColumns;
};

struct Kernel {
  BlockKernel run;
  Word word;
  std::int64_t columns;  // of a block
};
Kernel kernel_of(ProductKernel kernel) {
  if (kernel == ProductKernel::amx) return {block_amx, Word::bf16_pair, kAmxBlockColumns};
  if (kernel == ProductKernel::avx512_bf16)
    return {block_avx512_bf16, Word::bf16_pair, kBlockColumns};
  return {block_avx512, Word::f32, kBlockColumns};
}

/// A part of the inner index.
struct Inner {
  std::int64_t first, count;
  bool is_first, is_last;
};

/// One operand's part: outer indices of the tile, inner indices of the block.
PackCall operand(const ProductForm& form, Word word, const std::byte* data, bool inner_first,
                 std::int64_t stride, std::int64_t outer, std::int64_t inner) {
  const std::int64_t offset = inner_first ? inner * stride + outer : outer * stride + inner;
  return {.source = data + offset * size_of(form.elem),
          .stride = stride,
          .inner_first = inner_first,
          .elem = form.elem,
          .word = word};
}

void pack_operands(const Product& p, const ProductForm& form, const Tile& tile, const Inner& inner,
                   Word word, const Buffers& buffers) {
  PackCall a = operand(form, word, p.a, form.a_transposed, form.a_transposed ? p.rows : p.inner,
                       tile.row, inner.first);
  a.outer = tile.rows;
  a.inner = inner.count;
  a.line = Line::inner;
  pack_panels(buffers.a, a);
  PackCall b = operand(form, word, p.b, !form.b_transposed, form.b_transposed ? p.inner : p.columns,
                       tile.column, inner.first);
  b.outer = tile.columns;
  b.inner = inner.count;
  b.line = Line::outer;
  pack_panels(buffers.b, b);
}

/// Where the sums of the block at (row, column) of the tile go.
StoreCall target(const Product& p, const ProductForm& form, const Tile& tile, const Inner& inner,
                 const Buffers& buffers, std::int64_t block_columns, std::int64_t row,
                 std::int64_t column) {
  StoreCall store{.sums = buffers.block,
                  .rows = std::min(kBlockRows, tile.rows - row),
                  .columns = std::min(block_columns, tile.columns - column)};
  const bool direct = form.c == DType::f32;
  float* sums = buffers.sums + row * tile.columns + column;
  if (!direct && !inner.is_first) {
    store.earlier = sums;
    store.earlier_stride = tile.columns;
  }
  if (direct || inner.is_last) {
    store.c_type = form.c;
    store.c_stride = p.columns;
    store.c = p.c + ((tile.row + row) * p.columns + tile.column + column) * size_of(form.c);
    store.add = form.accumulate == Accumulate::add || (direct && !inner.is_first);
  } else {
    store.c_stride = tile.columns;
    store.c = reinterpret_cast<std::byte*>(sums);
  }
  return store;
}

void run_inner(const Product& p, const ProductForm& form, const Tile& tile, const Inner& inner,
               const Kernel& kernel, const Buffers& buffers) {
  pack_operands(p, form, tile, inner, kernel.word, buffers);
  const std::int64_t tiles = ceil_div(inner.count, kPanel * elements_of(kernel.word));
  for (std::int64_t column = 0; column < tile.columns; column += kernel.columns) {
    for (std::int64_t row = 0; row < tile.rows; row += kBlockRows) {
      const StoreCall store = target(p, form, tile, inner, buffers, kernel.columns, row, column);
      kernel.run({.a = buffers.a + row / kPanel * tiles * kTileWords,
                  .b = buffers.b + column / kPanel * tiles * kTileWords,
                  .tiles = tiles,
                  .rows = store.rows,
                  .columns = store.columns,
                  .sums = buffers.block});
      store_avx512(store);
    }
  }
}

}  // namespace

std::int64_t packed_tile_floats() {
  return Buffers::kFloats;
}

void run_packed_tile(const Product& p, const ProductForm& form, const Tile& tile, float* scratch,
                     ProductKernel name) {
  const AmxTiles amx{name == ProductKernel::amx};
  const Buffers buffers{scratch};
  const Kernel kernel = kernel_of(name);
  const std::int64_t step = kBlockTiles * kPanel * elements_of(kernel.word);
  std::int64_t k = 0;
  do {  // once for an empty inner index: sums of zero
    const Inner inner{k, std::min(step, p.inner - k), k == 0, k + step >= p.inner};
    run_inner(p, form, tile, inner, kernel, buffers);
    k += step;
  } while (k < p.inner);
}

}  // namespace shoal::ops::cpu
