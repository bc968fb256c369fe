#pragma once
#include <cstdint>
#include <span>
#include <vector>

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

/// Who multiplies. All sum in fp32.
enum class ProductKernel {
  blas,         ///< any processor; bf16 and f16 widened to fp32
  avx512,       ///< fp32 lanes; bf16 and f16 widened
  avx512_bf16,  ///< pairs of bf16
  amx           ///< tiles of bf16
};
/// Those that this processor has for the type, fastest first; blas is always the last.
[[nodiscard]] std::vector<ProductKernel> product_kernels(DType elem);

/// Packed operands and sums of each thread; the same for every kernel, so that a plan holds on any
/// processor.
[[nodiscard]] TensorView product_scratch(const Exec& exec);

/// Runs all products, cut into tiles of c that threads share; each element is summed by one thread,
/// over the inner index in a fixed order, so the bits do not depend on how many there are.
void run_products(std::span<const Product> products, const ProductForm& form,
                  const TensorView& scratch);
void run_products(std::span<const Product> products, const ProductForm& form,
                  const TensorView& scratch, ProductKernel kernel);

}  // namespace shoal::ops::cpu
