#pragma once
#include <cstdint>
#include <initializer_list>

/// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
/// easy as 1, 2, 3"). Every value is a pure function of (seed, purpose, global index), so that it
/// is the same on any rank, layout and device. Integer arithmetic and one exact scaling only: the
/// constexpr functions compile for host and device alike and agree bit for bit.
namespace shoal::philox {

/// What a stream of numbers is for. Values are part of the reproducibility contract: never reuse.
enum class Purpose : std::uint32_t {
  weights = 1,
  data_order = 2,
  dropout = 3,
  sampling = 4,
  stochastic_rounding = 5,
  blend = 6,
  test = 7,
  benchmark = 8,
};

struct Block {
  std::uint32_t x0, x1, x2, x3;
};

[[nodiscard]] constexpr Block block(std::uint64_t seed, Purpose purpose, std::uint64_t index,
                                    std::uint32_t stream = 0) {
  std::uint32_t c0 = static_cast<std::uint32_t>(index);
  std::uint32_t c1 = static_cast<std::uint32_t>(index >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(purpose);
  std::uint32_t c3 = stream;
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {c0, c1, c2, c3};
}

/// Uniform in [0, 1): the 24 high bits, exact in fp32.
[[nodiscard]] constexpr float uniform(std::uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24F;
}

/// Standard normal, approximately: the centred sum of the block's eight 16-bit halves (Irwin-Hall,
/// unit variance, excess kurtosis -0.15, support +-4.9). The sum is an integer, hence exact.
[[nodiscard]] constexpr float normal(const Block& b) {
  std::int32_t sum = 0;
  for (const std::uint32_t x : {b.x0, b.x1, b.x2, b.x3}) {
    sum += static_cast<std::int32_t>(x & 0xFFFFU) + static_cast<std::int32_t>(x >> 16);
  }
  const std::int32_t centred = 2 * sum - 8 * 0xFFFF;
  return static_cast<float>(centred) * 9.3440620e-06F;  // 1 / (2 * sqrt(8 (2^32 - 1) / 12))
}

[[nodiscard]] constexpr std::uint64_t bits64(const Block& b) {
  return (std::uint64_t{b.x1} << 32) | b.x0;
}

}  // namespace shoal::philox
