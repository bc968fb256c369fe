#pragma once
#include <cstdint>
#include <span>

#include "shoal/ops/common.hpp"

namespace shoal::ops::cpu {

/// One row-major product c (+)= op(a) op(b): c [rows, columns], `inner` products a sum.
struct Product {
  const std::byte* a = nullptr;
  const std::byte* b = nullptr;
  std::byte* c = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t inner = 0;
};

/// What all products of one call share.
struct ProductForm {
  bool a_transposed = false;  ///< a is [inner, rows] instead of [rows, inner]
  bool b_transposed = false;  ///< b is [columns, inner] instead of [inner, columns]
  DType elem = DType::f32;    ///< of a and b
  DType c = DType::f32;       ///< elem or f32
  Accumulate accumulate = Accumulate::overwrite;
};

/// fp32 panels of bf16 and f16 operands, for each thread; absent for f32, which BLAS reads in
/// place.
[[nodiscard]] TensorView product_scratch(const Exec& exec, DType elem);

/// Runs all products, cut into tiles of c that threads share; each tile is summed by one thread, so
/// the bits do not depend on how many there are.
void run_products(std::span<const Product> products, const ProductForm& form,
                  const TensorView& scratch);

}  // namespace shoal::ops::cpu
