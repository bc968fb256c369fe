#include "comm/reduce.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

struct Bf16 {
  std::uint16_t bits;
};

[[nodiscard]] inline float widen(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}
[[nodiscard]] inline float widen(_Float16 x) {
  return static_cast<float>(x);
}
template <class T>
[[nodiscard]] inline T widen(T x) {
  return x;
}

template <class T, class Wide>
[[nodiscard]] inline T narrow(Wide x) {
  return static_cast<T>(x);
}
template <>
[[nodiscard]] inline Bf16 narrow<Bf16, float>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  const std::uint32_t round_to_even = 0x7FFFU + ((bits >> 16) & 1U);
  return {static_cast<std::uint16_t>((bits + round_to_even) >> 16)};
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
    return (b > a || b != b) ? b : a;
  }
};
struct Min {
  template <class W>
  W operator()(W a, W b) const {
    return (b < a || b != b) ? b : a;
  }
};

template <class T, class Fold>
void fold(std::byte* out, const RankBlocks& b, Fold op) {
  auto* result = reinterpret_cast<T*>(out);
  const auto* data = reinterpret_cast<const T*>(b.data);
  for (std::int64_t i = 0; i < b.count; ++i) {
    auto sum = widen(data[i]);
    for (int r = 1; r < b.ranks; ++r) sum = op(sum, widen(data[r * b.count + i]));
    result[i] = narrow<T>(sum);
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
      return fold<_Float16>(out, blocks, op);
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
