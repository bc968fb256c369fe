#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "shoal/base/philox.hpp"

namespace shoal::test {

using Ints = std::vector<std::int32_t>;

inline std::uint32_t draw(std::uint64_t seed, std::int64_t i) {
  return philox::block(seed, philox::Purpose::test, static_cast<std::uint64_t>(i)).x0;
}

/// K different experts for each token; with `even`, only even experts, so that half get no token.
inline Ints random_experts(std::int64_t T, std::int64_t K, std::int64_t E, bool even = false) {
  Ints index;
  const std::int64_t step = even ? 2 : 1, choices = E / step;
  for (std::int64_t t = 0; t < T; ++t) {
    const std::int64_t first = draw(3, t) % choices;
    for (std::int64_t k = 0; k < K; ++k) {
      index.push_back(static_cast<std::int32_t>((first + k) % choices * step));
    }
  }
  return index;
}

struct Plan {
  Ints count, offset, row_of_slot, slot_of_row;
};

/// The order as a stable sort of the slots by expert; slots beyond the capacity are cut off.
inline Plan sorted_plan(const Ints& index, std::int64_t E, std::int64_t capacity, std::int64_t R) {
  Plan p{Ints(E), Ints(E + 1), Ints(index.size(), -1), Ints(R, -1)};
  Ints order(index.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return index[a] < index[b]; });
  std::int32_t row = 0;
  for (const std::int32_t slot : order) {
    std::int32_t& count = p.count[index[slot]];
    if (capacity > 0 && count == capacity) continue;
    ++count;
    p.row_of_slot[slot] = row;
    p.slot_of_row[row++] = slot;
  }
  for (std::int64_t e = 0; e < E; ++e) p.offset[e + 1] = p.offset[e] + p.count[e];
  return p;
}

}  // namespace shoal::test
