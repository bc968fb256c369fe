#include "comm/gate.hpp"

#include <array>

#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

[[nodiscard]] bool same_size_on_all_ranks(Operation op) {
  return op == Operation::broadcast || op == Operation::all_reduce ||
         op == Operation::reduce_scatter || op == Operation::all_gather ||
         op == Operation::all_to_all;
}

}  // namespace

Communicator::Gate Communicator::gate(Operation op, std::int64_t bytes) const {
  if (verify_sizes_ && size_ > 1 && involves_all_ranks(op)) verify(op, bytes);
  return Gate{*journal_, journal_->begin(op, name_, bytes, group_index_)};
}

void Communicator::verify(Operation op, std::int64_t bytes) const {
  const std::array<std::int64_t, 2> mine{static_cast<std::int64_t>(op),
                                         same_size_on_all_ranks(op) ? bytes : 0};
  std::vector<std::array<std::int64_t, 2>> all(static_cast<std::size_t>(size_));
  transport_->all_gather(std::as_bytes(std::span{mine}), reinterpret_cast<std::byte*>(all.data()));
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r] == mine) continue;
    fail("comm", "rank " + std::to_string(rank_) + " of " + name_ + " calls " +
                     std::string{name(op)} + " with " + std::to_string(bytes) + " bytes, rank " +
                     std::to_string(r) + " calls " +
                     std::string{name(static_cast<Operation>(all[r][0]))} + " with " +
                     std::to_string(all[r][1]) + " bytes");
  }
}

void Communicator::check_rank(int rank, std::string_view what) const {
  expect(rank >= 0 && rank < size_, std::string{what} + " " + std::to_string(rank) +
                                        " is not in the group of " + std::to_string(size_));
}

std::byte* Communicator::scratch(std::int64_t bytes) const {
  if (std::ssize(scratch_) < bytes) scratch_.resize(static_cast<std::size_t>(bytes));
  return scratch_.data();
}

}  // namespace shoal::comm
