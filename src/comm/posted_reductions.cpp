#include <cstring>
#include <functional>
#include <utility>

#include "comm/reduce.hpp"
#include "comm/slices.hpp"
#include "comm/transport.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/communicator.hpp"

// Collectives that go on beside the host's work: messages between all pairs of ranks, then our own
// arithmetic in rank order, the same bits as in the calls that wait.
namespace shoal::comm {
namespace {

using Messages = std::unique_ptr<PendingSend::Request>;

/// Rounds of messages; when one round has arrived, a step computes and may send the next.
class PostedRounds final : public PostedCollective {
 public:
  using Step = std::function<Messages()>;
  struct Entry {
    std::shared_ptr<Journal> journal;
    std::int64_t sequence = 0;
  };
  PostedRounds(Entry entry, Messages first, std::vector<Step> steps)
      : entry_{std::move(entry)}, messages_{std::move(first)}, steps_{std::move(steps)} {}

  [[nodiscard]] bool progress() override {
    while (messages_ != nullptr) {
      if (!messages_->done()) return false;
      advance();
    }
    return true;
  }
  void wait() override {
    if (progress()) return;
    entry_.journal->wait(entry_.sequence);
    while (messages_ != nullptr) {
      messages_->wait();
      advance();
    }
  }

 private:
  void advance() {
    messages_.reset();
    while (messages_ == nullptr && next_ < steps_.size()) messages_ = steps_[next_++]();
    if (messages_ == nullptr) entry_.journal->end(entry_.sequence);
  }

  Entry entry_;
  Messages messages_;
  std::vector<Step> steps_;
  std::size_t next_ = 0;
};

/// A round may start while another rank is still in the one before: their messages differ.
constexpr int kFirstRound = 1;
constexpr int kSecondRound = 0;

void expect_room(std::span<const std::byte> workspace, std::int64_t bytes) {
  expect(std::ssize(workspace) >= bytes, "a posted reduction needs more workspace");
}

}  // namespace

std::int64_t Communicator::posted_workspace(std::int64_t bytes, int ranks) {
  constexpr std::int64_t kLargestElement = 8;
  return bytes + ranks * kLargestElement;
}

std::int64_t Communicator::post_entry(Operation op, std::int64_t bytes) const {
  if (verify_sizes_) verify(op, bytes);
  return journal_->post(op, name_, bytes, group_index_);
}

std::unique_ptr<PostedCollective> Communicator::post_reduce_scatter_bytes(
    const PostedReduceScatter& a) const {
  const std::int64_t unit = size_of(a.type), block = std::ssize(a.recv);
  expect(block % unit == 0, "reduce_scatter: not a whole number of elements");
  expect(std::ssize(a.send) == block * size_, "reduce_scatter: send must hold one block a rank");
  expect_room(a.workspace, block * size_);
  const PostedRounds::Entry entry{journal_, post_entry(Operation::reduce_scatter, block * size_)};
  const EqualBlocks blocks{block, size_, block};
  std::byte* parts = a.workspace.data();
  auto sent = transport_->post_all_to_all_v(a.send.data(), blocks.view(), parts, blocks.view(),
                                            kFirstRound);
  const auto reduce = [=, recv = a.recv, type = a.type, op = a.op, ranks = size_]() -> Messages {
    reduce_in_rank_order(parts, {parts, block / unit, ranks, type}, op);
    if (block > 0) std::memcpy(recv.data(), parts, recv.size());
    return nullptr;
  };
  return std::make_unique<PostedRounds>(entry, std::move(sent),
                                        std::vector<PostedRounds::Step>{reduce});
}

std::unique_ptr<PostedCollective> Communicator::post_all_reduce_bytes(
    const PostedAllReduce& a) const {
  const std::int64_t unit = size_of(a.type), bytes = std::ssize(a.data);
  expect(bytes % unit == 0, "all_reduce: not a whole number of elements");
  const Slices slices{bytes / unit, size_, unit};
  const auto me = static_cast<std::size_t>(rank_);
  const std::int64_t mine = slices.bytes[me];
  std::byte* data = a.data.data();
  std::byte* own = data + slices.offsets[me];
  expect_room(a.workspace, mine * size_);
  const PostedRounds::Entry entry{journal_, post_entry(Operation::all_reduce, bytes)};
  std::byte* parts = a.workspace.data();
  const EqualBlocks incoming{mine, size_, mine};
  auto sent =
      transport_->post_all_to_all_v(data, slices.view(), parts, incoming.view(), kFirstRound);
  const auto reduce = [=, type = a.type, op = a.op, ranks = size_, to = transport_.get()] {
    reduce_in_rank_order(own, {parts, mine / unit, ranks, type}, op);
    const EqualBlocks same{mine, ranks, 0};
    return to->post_all_to_all_v(own, same.view(), data, slices.view(), kSecondRound);
  };
  return std::make_unique<PostedRounds>(entry, std::move(sent),
                                        std::vector<PostedRounds::Step>{reduce});
}

std::unique_ptr<PostedCollective> Communicator::post_all_gather_bytes(
    std::span<const std::byte> send, std::span<std::byte> recv) const {
  expect(recv.size() == send.size() * static_cast<std::size_t>(size_),
         "all_gather: recv must hold one block a rank");
  const std::int64_t block = std::ssize(send);
  const PostedRounds::Entry entry{journal_, post_entry(Operation::all_gather, block)};
  const EqualBlocks same{block, size_, 0}, blocks{block, size_, block};
  auto sent = transport_->post_all_to_all_v(send.data(), same.view(), recv.data(), blocks.view(),
                                            kFirstRound);
  return std::make_unique<PostedRounds>(entry, std::move(sent), std::vector<PostedRounds::Step>{});
}

}  // namespace shoal::comm
