#pragma once
#include <cstdint>

#include "shoal/base/philox.hpp"

namespace shoal::ops {

/// Which of four neighbouring elements dropout keeps. Group g holds the global elements
/// [4g, 4g + 4), one Philox block for all four. Host and device share this arithmetic.
struct DropoutGroup {
  static constexpr int kSize = 4;
  bool keep[kSize];
};

struct DropoutKey {
  std::uint64_t seed;
  std::uint32_t stream;
  float p;
};

[[nodiscard]] constexpr DropoutGroup dropout_group(const DropoutKey& key, std::int64_t group) {
  const philox::Block b = philox::block(key.seed, philox::Purpose::dropout,
                                        static_cast<std::uint64_t>(group), key.stream);
  return {{philox::uniform(b.x0) >= key.p, philox::uniform(b.x1) >= key.p,
           philox::uniform(b.x2) >= key.p, philox::uniform(b.x3) >= key.p}};
}

}  // namespace shoal::ops
