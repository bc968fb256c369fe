#pragma once
#include <bit>
#include <cstdint>
#include <string_view>

#include "shoal/base/error.hpp"

namespace shoal {

enum class DType { f32, bf16, f16, f64, i32, i64, u8, u16, u32 };

[[nodiscard]] constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::u8:
      return 1;
    case DType::bf16:
    case DType::f16:
    case DType::u16:
      return 2;
    case DType::f32:
    case DType::i32:
    case DType::u32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
  }
  return 0;
}
[[nodiscard]] std::string_view name(DType dtype);
[[nodiscard]] DType dtype_from_name(std::string_view text);  ///< InputError lists the known names

/// Storage formats of the CPU back end: arithmetic is always done in fp32.
struct Bf16 {
  std::uint16_t bits;
};
struct Half {
  std::uint16_t bits;
};

[[nodiscard]] constexpr float to_float(float x) {
  return x;
}
[[nodiscard]] constexpr float to_float(Bf16 x) {
  return std::bit_cast<float>(std::uint32_t{x.bits} << 16);
}
[[nodiscard]] inline float to_float(Half x) {
  return static_cast<float>(std::bit_cast<_Float16>(x.bits));
}

/// Round to nearest even; NaN stays NaN.
template <class Elem>
[[nodiscard]] constexpr Elem from_float(float x);
template <>
[[nodiscard]] constexpr float from_float<float>(float x) {
  return x;
}
template <>
[[nodiscard]] constexpr Bf16 from_float<Bf16>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16)};
}
template <>
[[nodiscard]] inline Half from_float<Half>(float x) {
  return {std::bit_cast<std::uint16_t>(static_cast<_Float16>(x))};
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<Bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<std::uint16_t> {
  static constexpr DType value = DType::u16;
};
template <>
struct DTypeOf<std::uint32_t> {
  static constexpr DType value = DType::u32;
};

/// Calls `body(Elem{})` with the CPU element type of a floating dtype: f32, bf16 or f16.
template <class Body>
decltype(auto) with_elem(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(float{});
    case DType::bf16:
      return body(Bf16{});
    case DType::f16:
      return body(Half{});
    default:
      fail("dtype", "expected f32, bf16 or f16");
  }
}

}  // namespace shoal
