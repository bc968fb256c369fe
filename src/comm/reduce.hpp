#pragma once
#include <cstddef>
#include <cstdint>

#include "shoal/comm/communicator.hpp"

namespace shoal::comm {

/// Operands of one reduction: `ranks` blocks of `count` elements, back to back in rank order.
struct RankBlocks {
  const std::byte* data = nullptr;
  std::int64_t count = 0;
  int ranks = 1;
  ElementType type = ElementType::f32;
};

/// out[i] = op over r of block r[i], in rank order. Half precision accumulates in fp32 and rounds
/// once; a NaN stays one under max and min. `out` may be block 0.
void reduce_in_rank_order(std::byte* out, const RankBlocks& blocks, ReduceOp op);

}  // namespace shoal::comm
