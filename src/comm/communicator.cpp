#include "shoal/comm/communicator.hpp"

#include <cstring>
#include <numeric>
#include <utility>

#include "comm/gate.hpp"
#include "comm/transport.hpp"
#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

/// Sizes and positions in bytes of blocks that lie back to back.
struct ByteBlocks {
  std::vector<std::int64_t> bytes, offsets;
  std::int64_t total = 0;

  ByteBlocks(std::span<const std::int64_t> counts, std::int64_t element_bytes) {
    for (const std::int64_t count : counts) {
      bytes.push_back(count * element_bytes);
      offsets.push_back(total);
      total += bytes.back();
    }
  }
  [[nodiscard]] Blocks view() const { return {bytes, offsets}; }
};

[[nodiscard]] std::int64_t ssize_of(std::span<const std::byte> bytes) {
  return static_cast<std::int64_t>(bytes.size());
}

[[nodiscard]] std::vector<std::string> cut(std::span<const std::uint8_t> all,
                                           std::span<const std::int64_t> sizes) {
  std::vector<std::string> texts;
  std::size_t at = 0;
  for (const std::int64_t size : sizes) {
    const auto part = all.subspan(at, static_cast<std::size_t>(size));
    texts.emplace_back(part.begin(), part.end());
    at += part.size();
  }
  return texts;
}

[[nodiscard]] std::vector<std::uint8_t> bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

/// A new id from an id and a number (the finaliser of SplitMix64).
[[nodiscard]] std::uint64_t mix(std::uint64_t id, std::uint64_t number) {
  std::uint64_t z = id + 0x9E3779B97F4A7C15ULL * (number + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace

Communicator::Communicator(Parts parts)
    : transport_{std::move(parts.transport)},
      journal_{std::move(parts.journal)},
      name_{std::move(parts.name)},
      rank_{transport_->rank()},
      size_{transport_->size()},
      verify_sizes_{parts.verify_sizes},
      group_id_{parts.group_id},
      group_index_{journal_->open_group(group_id_, name_)} {}

Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;
Communicator::~Communicator() = default;

Communicator Communicator::world(const CommOptions& options) {
  return Communicator{{make_mpi_world_transport(),
                       std::make_shared<Journal>(options.trace_capacity), "world",
                       options.verify_sizes}};
}

Communicator Communicator::self(const CommOptions& options) {
  return Communicator{{make_self_transport(), std::make_shared<Journal>(options.trace_capacity),
                       "self", options.verify_sizes}};
}

Communicator Communicator::on_paper(int rank, int size, std::string name) {
  expect(rank >= 0 && rank < size, "on_paper: the rank is not in the group");
  return Communicator{
      {make_paper_transport(rank, size), std::make_shared<Journal>(1), std::move(name), false}};
}

bool Communicator::is_on_paper() const {
  return transport_->on_paper();
}

Communicator Communicator::split(const Split& how) const {
  const Gate entry = gate(Operation::split, 0);
  expect(how.color >= 0, "split: the colour must not be negative");
  const auto color = static_cast<std::uint64_t>(how.color);
  return Communicator{{transport_->split(how.color, how.key), journal_, how.name, verify_sizes_,
                       mix(mix(group_id_, ++num_splits_), color)}};
}

std::size_t Communicator::total(std::span<const std::int64_t> counts) {
  return static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
}

void Communicator::barrier() const {
  const Gate entry = gate(Operation::barrier, 0);
  transport_->barrier();
}

void Communicator::broadcast_bytes(std::span<std::byte> data, int root) const {
  check_rank(root, "broadcast: root");
  const Gate entry = gate(Operation::broadcast, ssize_of(data));
  transport_->broadcast(data, root);
}

void Communicator::all_gather_bytes(std::span<const std::byte> send,
                                    std::span<std::byte> recv) const {
  expect(recv.size() == send.size() * static_cast<std::size_t>(size_),
         "all_gather: recv must hold one block a rank");
  const Gate entry = gate(Operation::all_gather, ssize_of(send));
  transport_->all_gather(send, recv.data());
}

void Communicator::all_gather_v_bytes(const GatherV& a) const {
  expect(std::ssize(a.counts) == size_, "all_gather_v: one count a rank");
  const ByteBlocks blocks{a.counts, a.element_bytes};
  expect(blocks.bytes[static_cast<std::size_t>(rank_)] == ssize_of(a.send),
         "all_gather_v: the own count differs from what is sent");
  expect(blocks.total == ssize_of(a.recv), "all_gather_v: recv differs from the sum of counts");
  const Gate entry = gate(Operation::all_gather_v, ssize_of(a.send));
  transport_->all_gather_v(a.send, a.recv.data(), blocks.view());
}

void Communicator::gather_v_bytes(const GatherV& a, int root) const {
  check_rank(root, "gather_v: root");
  expect(std::ssize(a.counts) == size_, "gather_v: one count a rank");
  const ByteBlocks blocks{a.counts, a.element_bytes};
  expect(blocks.bytes[static_cast<std::size_t>(rank_)] == ssize_of(a.send),
         "gather_v: the own count differs from what is sent");
  expect(rank_ != root || blocks.total == ssize_of(a.recv),
         "gather_v: recv differs from the sum of counts");
  const Gate entry = gate(Operation::gather_v, ssize_of(a.send));
  transport_->gather_v(a.send, a.recv.data(), blocks.view(), root);
}

void Communicator::all_to_all_bytes(std::span<const std::byte> send,
                                    std::span<std::byte> recv) const {
  expect(send.size() == recv.size() && ssize_of(send) % size_ == 0,
         "all_to_all: send and recv hold one equal block a rank");
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(size_), ssize_of(send) / size_);
  const ByteBlocks blocks{counts, 1};
  const Gate entry = gate(Operation::all_to_all, ssize_of(send));
  transport_->all_to_all_v(send.data(), blocks.view(), recv.data(), blocks.view(), {});
}

void Communicator::all_to_all_v_bytes(const AllToAllVBytes& a) const {
  expect(std::ssize(a.send_counts) == size_ && std::ssize(a.recv_counts) == size_,
         "all_to_all_v: one count a rank");
  const ByteBlocks send{a.send_counts, a.element_bytes}, recv{a.recv_counts, a.element_bytes};
  expect(send.total == ssize_of(a.send), "all_to_all_v: send differs from the sum of its counts");
  expect(recv.total == ssize_of(a.recv), "all_to_all_v: recv differs from the sum of its counts");
  const std::int64_t own = send.bytes[static_cast<std::size_t>(rank_)];
  const Gate entry = gate(Operation::all_to_all_v, send.total - own);
  transport_->all_to_all_v(a.send.data(), send.view(), a.recv.data(), recv.view(), a.overlap);
}

void Communicator::send_bytes(std::span<const std::byte> data, int to) const {
  check_rank(to, "send: target");
  const Gate entry = gate(Operation::send, ssize_of(data));
  transport_->send(data, to);
}

void Communicator::recv_bytes(std::span<std::byte> data, int from) const {
  check_rank(from, "recv: source");
  const Gate entry = gate(Operation::recv, ssize_of(data));
  transport_->recv(data, from);
}

PendingSend Communicator::post_send_bytes(std::span<const std::byte> data, int to, int tag) const {
  check_rank(to, "post_send: target");
  const Gate entry = gate(Operation::send, ssize_of(data));
  return PendingSend{transport_->post_send(data, to, tag)};
}

void Communicator::wait_send(PendingSend& pending) const {
  const Gate entry = gate(Operation::send_wait, 0);
  pending.wait();
}

void Communicator::recv_tagged_bytes(std::span<std::byte> data, int from, int tag) const {
  check_rank(from, "recv: source");
  const Gate entry = gate(Operation::recv, ssize_of(data));
  transport_->recv_tagged(data, from, tag);
}

void Communicator::send_recv_bytes(const SendRecv& a) const {
  check_rank(a.to, "send_recv: target");
  check_rank(a.from, "send_recv: source");
  const Gate entry = gate(Operation::send_recv, ssize_of(a.send));
  transport_->send_recv(a.send, a.to, a.recv, a.from);
}

std::string Communicator::broadcast_string(std::string_view text, int root) const {
  auto size = static_cast<std::int64_t>(text.size());
  broadcast(std::span{&size, 1}, root);
  std::string all{rank_ == root ? text : std::string_view{}};
  all.resize(static_cast<std::size_t>(size));
  broadcast_bytes(std::as_writable_bytes(std::span{all}), root);
  return all;
}

std::vector<std::string> Communicator::gather_strings(std::string_view text, int root) const {
  const auto sizes = all_gather_value(static_cast<std::int64_t>(text.size()));
  const auto all = gather_v(bytes_of(text), root);
  return rank_ == root ? cut(all, sizes) : std::vector<std::string>{};
}

std::vector<std::string> Communicator::all_gather_strings(std::string_view text) const {
  const auto sizes = all_gather_value(static_cast<std::int64_t>(text.size()));
  return cut(all_gather_v(bytes_of(text)), sizes);
}

}  // namespace shoal::comm
