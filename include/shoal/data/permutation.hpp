#pragma once
#include <cstdint>

namespace shoal::data {

/// A random permutation of 0..n-1 that is computed, not stored: a Feistel network (Luby and
/// Rackoff 1988) over the next even number of bits with Philox as the round function; values
/// outside the range walk on along their cycle until they fall inside (Black and Rogaway 2002).
/// The same key gives the same order everywhere.
class KeyedPermutation {
 public:
  KeyedPermutation(std::uint64_t key, std::int64_t n);
  [[nodiscard]] std::int64_t size() const { return n_; }
  [[nodiscard]] std::int64_t operator()(std::int64_t i) const;

 private:
  [[nodiscard]] std::uint64_t encrypt(std::uint64_t x) const;
  std::uint64_t key_;
  std::int64_t n_;
  int half_bits_ = 0;
};

}  // namespace shoal::data
