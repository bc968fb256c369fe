#include "shoal/tensor/view.hpp"

#include <array>
#include <string>
#include <utility>

namespace shoal {
namespace {

constexpr std::array<std::pair<DType, std::string_view>, 9> kNames = {{
    {DType::f32, "f32"},
    {DType::bf16, "bf16"},
    {DType::f16, "f16"},
    {DType::f64, "f64"},
    {DType::i32, "i32"},
    {DType::i64, "i64"},
    {DType::u8, "u8"},
    {DType::u16, "u16"},
    {DType::u32, "u32"},
}};

}  // namespace

std::string_view name(DType dtype) {
  for (const auto& [value, text] : kNames) {
    if (value == dtype) return text;
  }
  return "unknown";
}

DType dtype_from_name(std::string_view text) {
  for (const auto& [value, known] : kNames) {
    if (known == text) return value;
  }
  throw InputError{"unknown dtype '" + std::string{text} +
                   "': known are f32 bf16 f16 f64 i32 i64 u8 u16 u32"};
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void expect_shape(const ConstTensorView& view, const Shape& shape, std::string_view what,
                  Where at) {
  if (view.shape() == shape) return;
  fail("shape",
       std::string{what} + " is " + to_string(view.shape()) + ", expected " + to_string(shape), at);
}

void expect_dtype(const ConstTensorView& view, DType dtype, std::string_view what, Where at) {
  if (view.dtype() == dtype) return;
  fail("dtype",
       std::string{what} + " is " + std::string{name(view.dtype())} + ", expected " +
           std::string{name(dtype)},
       at);
}

void expect_floating(const ConstTensorView& view, std::string_view what, Where at) {
  const DType d = view.dtype();
  if (d == DType::f32 || d == DType::bf16 || d == DType::f16) return;
  fail("dtype", std::string{what} + " is " + std::string{name(d)} + ", expected f32, bf16 or f16",
       at);
}

void expect_same_dtype(const ConstTensorView& a, const ConstTensorView& b, std::string_view what,
                       Where at) {
  expect_dtype(b, a.dtype(), what, at);
}

}  // namespace shoal
