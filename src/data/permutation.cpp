#include "shoal/data/permutation.hpp"

#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"

namespace shoal::data {
namespace {

constexpr std::uint32_t kRounds = 6;

}  // namespace

KeyedPermutation::KeyedPermutation(std::uint64_t key, std::int64_t n) : key_{key}, n_{n} {
  expect(n >= 1 && n <= std::int64_t{1} << 62, "a permutation of 1 to 2^62 numbers");
  while (std::int64_t{1} << (2 * half_bits_) < n) ++half_bits_;
}

std::uint64_t KeyedPermutation::encrypt(std::uint64_t x) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = x >> half_bits_, right = x & mask;
  for (std::uint32_t round = 0; round < kRounds; ++round) {
    const auto b = philox::block(key_, philox::Purpose::data_order, right, round);
    left = std::exchange(right, left ^ (b.x0 & mask));
  }
  return left << half_bits_ | right;
}

std::int64_t KeyedPermutation::operator()(std::int64_t i) const {
  expect(i >= 0 && i < n_, "outside the permutation");
  auto x = static_cast<std::uint64_t>(i);
  do {
    x = encrypt(x);
  } while (x >= static_cast<std::uint64_t>(n_));
  return static_cast<std::int64_t>(x);
}

}  // namespace shoal::data
