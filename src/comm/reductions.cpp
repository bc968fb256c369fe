#include <algorithm>
#include <cstring>

#include "comm/gate.hpp"
#include "comm/reduce.hpp"
#include "comm/slices.hpp"
#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"

namespace shoal::comm {
namespace {

/// Up to this many bytes over all ranks, everybody gathers everything: one latency.
constexpr std::int64_t kSmallTotal = 64 * 1024;
/// Larger ones go in chunks of this size, which bounds the scratch memory.
constexpr std::int64_t kChunkBytes = 4 * 1024 * 1024;

}  // namespace

void Communicator::all_reduce_bytes(std::span<std::byte> data, ElementType type,
                                    ReduceOp op) const {
  const std::int64_t unit = size_of(type), bytes = std::ssize(data);
  expect(bytes % unit == 0, "all_reduce: not a whole number of elements");
  const Gate entry = gate(Operation::all_reduce, bytes);
  if (size_ == 1 || bytes == 0) return;
  if (bytes * size_ <= kSmallTotal) {
    std::byte* all = scratch(bytes * size_);
    transport_->all_gather(data, all);
    return reduce_in_rank_order(data.data(), {all, bytes / unit, size_, type}, op);
  }
  for (std::int64_t at = 0; at < bytes; at += kChunkBytes) {
    std::byte* chunk = data.data() + at;
    const Slices slices{std::min(kChunkBytes, bytes - at) / unit, size_, unit};
    const std::int64_t mine = slices.bytes[static_cast<std::size_t>(rank_)];
    std::byte* parts = scratch(mine * size_);
    const EqualBlocks incoming{mine, size_, mine};
    transport_->all_to_all_v(chunk, slices.view(), parts, incoming.view(), {});
    reduce_in_rank_order(parts, {parts, mine / unit, size_, type}, op);
    transport_->all_gather_v({parts, static_cast<std::size_t>(mine)}, chunk, slices.view());
  }
}

void Communicator::reduce_scatter_bytes(std::span<const std::byte> send, std::span<std::byte> recv,
                                        ElementType type, ReduceOp op) const {
  const std::int64_t unit = size_of(type), block = std::ssize(recv);
  expect(block % unit == 0, "reduce_scatter: not a whole number of elements");
  expect(std::ssize(send) == block * size_, "reduce_scatter: send must hold one block a rank");
  const Gate entry = gate(Operation::reduce_scatter, std::ssize(send));
  if (size_ == 1) {
    if (block > 0) std::memmove(recv.data(), send.data(), recv.size());
    return;
  }
  const std::int64_t piece = round_up(std::max(kChunkBytes / size_, unit), unit);
  for (std::int64_t at = 0; at < block; at += piece) {
    const std::int64_t bytes = std::min(piece, block - at);
    std::byte* parts = scratch(bytes * size_);
    const EqualBlocks outgoing{bytes, size_, block}, incoming{bytes, size_, bytes};
    transport_->all_to_all_v(send.data() + at, outgoing.view(), parts, incoming.view(), {});
    reduce_in_rank_order(parts, {parts, bytes / unit, size_, type}, op);
    std::memcpy(recv.data() + at, parts, static_cast<std::size_t>(bytes));
  }
}

}  // namespace shoal::comm
