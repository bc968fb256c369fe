#include "ops/product_cpu.hpp"

#include <omp.h>

#include <algorithm>

#include "ops/cpu_features.hpp"
#include "ops/product_tile_cpu.hpp"
#include "shoal/base/math.hpp"

namespace shoal::ops::cpu {
namespace {

std::int64_t scratch_floats() {
  return std::max(blas_tile_floats(), packed_tile_floats());
}

struct TileShape {
  std::int64_t rows, columns;
  [[nodiscard]] std::int64_t across(const Product& p) const { return ceil_div(p.columns, columns); }
  [[nodiscard]] std::int64_t tiles(const Product& p) const {
    return ceil_div(p.rows, rows) * across(p);
  }
};

std::int64_t count_tiles(std::span<const Product> products, const TileShape& shape) {
  std::int64_t count = 0;
  for (const Product& p : products) count += shape.tiles(p);
  return count;
}

/// The largest tiles that still give each thread a few to choose from. No packed sum depends on
/// their shape; BLAS may round otherwise at the edge of a matrix, so that its tiles are fixed.
TileShape tile_shape(std::span<const Product> products, ProductKernel kernel) {
  if (kernel == ProductKernel::blas) return {kTileRows / 2, kTileColumns};
  const std::int64_t threads = omp_get_max_threads();
  constexpr std::int64_t kLeast = 128, kTilesPerThread = 3;
  TileShape shape{kTileRows, kTileColumns};
  while (threads > 1 && count_tiles(products, shape) < kTilesPerThread * threads) {
    std::int64_t& side = shape.rows >= shape.columns ? shape.rows : shape.columns;
    if (side == kLeast) break;
    side /= 2;
  }
  return shape;
}

}  // namespace

std::vector<ProductKernel> product_kernels(DType elem) {
  const CpuFeatures& has = cpu_features();
  std::vector<ProductKernel> kernels;
  if (elem == DType::bf16 && has.amx_bf16) kernels.push_back(ProductKernel::amx);
  if (elem == DType::bf16 && has.avx512_bf16) kernels.push_back(ProductKernel::avx512_bf16);
  if (has.avx512) kernels.push_back(ProductKernel::avx512);
  kernels.push_back(ProductKernel::blas);
  return kernels;
}

TensorView product_scratch(const Exec& exec) {
  return scratch(exec, {omp_get_max_threads(), scratch_floats()}, DType::f32);
}

void run_products(std::span<const Product> products, const ProductForm& form,
                  const TensorView& scratch) {
  run_products(products, form, scratch, product_kernels(form.elem).front());
}

void run_products(std::span<const Product> products, const ProductForm& form,
                  const TensorView& scratch, ProductKernel kernel) {
  const TileShape shape = tile_shape(products, kernel);
  std::vector<std::int64_t> first_tile{0};  // of each product, and the end
  for (const Product& p : products) first_tile.push_back(first_tile.back() + shape.tiles(p));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < first_tile.back(); ++i) {
    const auto next = std::upper_bound(first_tile.begin(), first_tile.end(), i);
    const Product& p = products[static_cast<std::size_t>(next - first_tile.begin() - 1)];
    const std::int64_t index = i - *(next - 1);
    const std::int64_t row = index / shape.across(p) * shape.rows;
    const std::int64_t column = index % shape.across(p) * shape.columns;
    const Tile tile{row, column, std::min(shape.rows, p.rows - row),
                    std::min(shape.columns, p.columns - column)};
    float* floats = scratch.data<float>() + omp_get_thread_num() * scratch_floats();
    if (kernel == ProductKernel::blas) {
      run_blas_tile(p, form, tile, floats);
    } else {
      run_packed_tile(p, form, tile, floats, kernel);
    }
  }
}

}  // namespace shoal::ops::cpu
