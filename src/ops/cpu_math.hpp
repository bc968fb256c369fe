#pragma once
#include <bit>
#include <cstdint>

#include "shoal/tensor/view.hpp"

/// fp32 functions of the CPU back ends that a compiler turns into vector code inside an `omp simd`
/// loop, which a call of libm prevents.
namespace shoal::ops::cpu {

/// exp(x) within 2 units in the last place over the whole range, subnormal results included;
/// exp(-inf) = 0, overflow gives inf, NaN stays NaN.
/// x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) by its Taylor series to r^7 (remainder < 2^-27).
[[nodiscard]] inline float fast_exp(float x) {
  constexpr float kLowest = -105.0F;        // below it even the smallest subnormal rounds to 0
  constexpr float kHighest = 89.0F;         // above it the result is inf
  constexpr float kRound = 0x1.8p23F;       // adding it leaves the nearest integer in the low bits
  constexpr float kLn2High = 0x1.62e4p-1F;  // short enough that n * kLn2High is exact
  constexpr float kLn2Low = 0x1.7f7d1cp-20F;
  x = x < kLowest ? kLowest : x;
  x = x > kHighest ? kHighest : x;
  const float shifted = x * 1.44269504F + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  // 2^n in two factors, because 2^n alone may lie outside the normal range.
  const std::int32_t whole =
      std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  const std::int32_t half = whole >> 1;
  const auto power = [](std::int32_t e) { return std::bit_cast<float>((e + 127) << 23); };
  return p * power(half) * power(whole - half);
}

[[nodiscard]] inline float sigmoid(float x) {
  return 1.0F / (1.0F + fast_exp(-x));
}

/// Address of an optional view's elements; null when it is absent.
template <class Elem>
[[nodiscard]] Elem* optional_data(const TensorView& view) {
  return view.absent() ? nullptr : view.data<Elem>();
}
template <class Elem>
[[nodiscard]] const Elem* optional_data(const ConstTensorView& view) {
  return view.absent() ? nullptr : view.data<Elem>();
}

/// Work below this many element operations stays on one thread: starting a team costs more.
inline constexpr std::int64_t kParallelWork = 16384;

}  // namespace shoal::ops::cpu
