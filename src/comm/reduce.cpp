#include "comm/reduce.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "shoal/base/error.hpp"
#include "shoal/tensor/dtype.hpp"

namespace shoal::comm {
namespace {

template <class T>
[[nodiscard]] auto widen(T x) {
  return x;
}
[[nodiscard]] inline float widen(Bf16 x) {
  return to_float(x);
}
[[nodiscard]] inline float widen(Half x) {
  return to_float(x);
}

template <class T, class Wide>
[[nodiscard]] inline T narrow(Wide x) {
  if constexpr (std::is_same_v<T, Bf16> || std::is_same_v<T, Half>) {
    return from_float<T>(x);
  } else {
    return static_cast<T>(x);
  }
}

template <class W>
[[nodiscard]] bool is_nan([[maybe_unused]] W x) {
  if constexpr (std::is_floating_point_v<W>) {
    return std::isnan(x);
  } else {
    return false;
  }
}

struct Sum {
  template <class W>
  W operator()(W a, W b) const {
    return static_cast<W>(a + b);
  }
};
struct Max {
  template <class W>
  W operator()(W a, W b) const {
    return (b > a || is_nan(b)) ? b : a;
  }
};
struct Min {
  template <class W>
  W operator()(W a, W b) const {
    return (b < a || is_nan(b)) ? b : a;
  }
};

/// Tile by tile, so that the sums stay in the first-level cache and the inner loops vectorise.
template <class T, class Fold>
void fold(std::byte* out, const RankBlocks& b, Fold op) {
  constexpr std::int64_t kTile = 1024;
  auto* result = reinterpret_cast<T*>(out);
  const auto* data = reinterpret_cast<const T*>(b.data);
  std::array<decltype(widen(T{})), kTile> sums;
  for (std::int64_t at = 0; at < b.count; at += kTile) {
    const std::int64_t n = std::min(kTile, b.count - at);
    for (std::int64_t i = 0; i < n; ++i) sums[i] = widen(data[at + i]);
    for (int r = 1; r < b.ranks; ++r) {
      const T* block = data + r * b.count + at;
      for (std::int64_t i = 0; i < n; ++i) sums[i] = op(sums[i], widen(block[i]));
    }
    for (std::int64_t i = 0; i < n; ++i) result[at + i] = narrow<T>(sums[i]);
  }
}

template <class T>
void fold(std::byte* out, const RankBlocks& blocks, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return fold<T>(out, blocks, Sum{});
    case ReduceOp::max:
      return fold<T>(out, blocks, Max{});
    case ReduceOp::min:
      return fold<T>(out, blocks, Min{});
  }
}

}  // namespace

void reduce_in_rank_order(std::byte* out, const RankBlocks& blocks, ReduceOp op) {
  switch (blocks.type) {
    case ElementType::f32:
      return fold<float>(out, blocks, op);
    case ElementType::f64:
      return fold<double>(out, blocks, op);
    case ElementType::i32:
      return fold<std::int32_t>(out, blocks, op);
    case ElementType::i64:
      return fold<std::int64_t>(out, blocks, op);
    case ElementType::u8:
      return fold<std::uint8_t>(out, blocks, op);
    case ElementType::u32:
      return fold<std::uint32_t>(out, blocks, op);
    case ElementType::u64:
      return fold<std::uint64_t>(out, blocks, op);
    case ElementType::f16:
      return fold<Half>(out, blocks, op);
    case ElementType::bf16:
      return fold<Bf16>(out, blocks, op);
  }
  fail("comm", "unknown element type");
}

std::int64_t size_of(ElementType type) {
  switch (type) {
    case ElementType::u8:
      return 1;
    case ElementType::f16:
    case ElementType::bf16:
      return 2;
    case ElementType::f32:
    case ElementType::i32:
    case ElementType::u32:
      return 4;
    case ElementType::f64:
    case ElementType::i64:
    case ElementType::u64:
      return 8;
  }
  fail("comm", "unknown element type");
}

}  // namespace shoal::comm
