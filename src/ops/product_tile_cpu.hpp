#pragma once
#include <cstdint>

#include "ops/product_cpu.hpp"

/// How one thread computes one tile of c; product_cpu.cpp deals the tiles to threads.
namespace shoal::ops::cpu {

struct Tile {
  std::int64_t row, column, rows, columns;
};

/// At most kTileRows x kTileColumns; a value of an operand then meets at least 256 products.
inline constexpr std::int64_t kTileRows = 512;
inline constexpr std::int64_t kTileColumns = 512;

/// Floats of scratch that a tile needs, a multiple of 16.
[[nodiscard]] std::int64_t blas_tile_floats();
[[nodiscard]] std::int64_t packed_tile_floats();

void run_blas_tile(const Product& product, const ProductForm& form, const Tile& tile,
                   float* scratch);
/// `kernel` is any other than blas.
void run_packed_tile(const Product& product, const ProductForm& form, const Tile& tile,
                     float* scratch, ProductKernel kernel);

}  // namespace shoal::ops::cpu
