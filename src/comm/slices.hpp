#pragma once
#include <cstdint>
#include <vector>

#include "comm/transport.hpp"

namespace shoal::comm {

/// `count` elements dealt to `ranks` as evenly as whole elements allow, in bytes.
struct Slices {
  std::vector<std::int64_t> bytes, offsets;

  Slices(std::int64_t count, int ranks, std::int64_t element_bytes) {
    for (int r = 0; r < ranks; ++r) {
      const std::int64_t begin = count * r / ranks, end = count * (r + 1) / ranks;
      offsets.push_back(begin * element_bytes);
      bytes.push_back((end - begin) * element_bytes);
    }
  }
  [[nodiscard]] Blocks view() const { return {bytes, offsets}; }
};

/// `ranks` blocks of the same size, starting `stride` bytes apart.
struct EqualBlocks {
  std::vector<std::int64_t> bytes, offsets;

  EqualBlocks(std::int64_t block, int ranks, std::int64_t stride) {
    for (int r = 0; r < ranks; ++r) {
      offsets.push_back(r * stride);
      bytes.push_back(block);
    }
  }
  [[nodiscard]] Blocks view() const { return {bytes, offsets}; }
};

}  // namespace shoal::comm
