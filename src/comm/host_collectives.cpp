#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "comm/paper_collectives.hpp"
#include "shoal/base/clock.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/device/buffer.hpp"

namespace shoal::comm {
namespace {

[[nodiscard]] std::span<std::byte> bytes_of(std::byte* data, std::int64_t count) {
  return {data, static_cast<std::size_t>(count)};
}
[[nodiscard]] std::span<const std::byte> bytes_of(const std::byte* data, std::int64_t count) {
  return {data, static_cast<std::size_t>(count)};
}

[[nodiscard]] std::int64_t row_bytes(const ConstTensorView& rows) {
  std::int64_t bytes = size_of(rows.dtype());
  for (int i = 1; i < rows.shape().rank(); ++i) bytes *= rows.dim(i);
  return bytes;
}

/// Host memory needs no staging.
class DirectCollectives final : public TensorCollectives {
 public:
  explicit DirectCollectives(const Communicator& group) : group_{group} {}
  [[nodiscard]] int rank() const override { return group_.rank(); }
  [[nodiscard]] int size() const override { return group_.size(); }
  [[nodiscard]] bool capturable() const override { return false; }
  [[nodiscard]] bool can_post() const override { return true; }

 private:
  Posted run_post_all_reduce(const Exec&, const TensorView& data, ReduceOp op,
                             const TensorView& workspace) override {
    return group_.post_all_reduce_bytes(
        {.data = bytes_of(data.bytes_begin(), data.bytes()),
         .workspace = bytes_of(workspace.bytes_begin(), workspace.bytes()),
         .type = element_type_of(data.dtype()),
         .op = op});
  }
  Posted run_post_reduce_scatter(const Exec&, const ReduceScatter& a,
                                 const TensorView& workspace) override {
    return group_.post_reduce_scatter_bytes(
        {.send = bytes_of(a.send.bytes_begin(), a.send.bytes()),
         .recv = bytes_of(a.recv.bytes_begin(), a.recv.bytes()),
         .workspace = bytes_of(workspace.bytes_begin(), workspace.bytes()),
         .type = element_type_of(a.recv.dtype()),
         .op = a.op});
  }
  Posted run_post_all_gather(const Exec&, const AllGather& a) override {
    return group_.post_all_gather_bytes(bytes_of(a.send.bytes_begin(), a.send.bytes()),
                                        bytes_of(a.recv.bytes_begin(), a.recv.bytes()));
  }
  void run_all_reduce(const Exec&, const TensorView& data, ReduceOp op) override {
    group_.all_reduce_bytes(bytes_of(data.bytes_begin(), data.bytes()),
                            element_type_of(data.dtype()), op);
  }
  void run_reduce_scatter(const Exec&, const ReduceScatter& a) override {
    group_.reduce_scatter_bytes(bytes_of(a.send.bytes_begin(), a.send.bytes()),
                                bytes_of(a.recv.bytes_begin(), a.recv.bytes()),
                                element_type_of(a.recv.dtype()), a.op);
  }
  void run_all_gather(const Exec&, const AllGather& a) override {
    group_.all_gather_bytes(bytes_of(a.send.bytes_begin(), a.send.bytes()),
                            bytes_of(a.recv.bytes_begin(), a.recv.bytes()));
  }
  void run_broadcast(const Exec&, const TensorView& data, int root) override {
    group_.broadcast_bytes(bytes_of(data.bytes_begin(), data.bytes()), root);
  }
  void run_all_to_all_rows(const Exec&, const AllToAllRows& a) override {
    group_.all_to_all_v_bytes({.send = bytes_of(a.send.bytes_begin(), a.send.bytes()),
                               .send_counts = a.send_rows,
                               .recv = bytes_of(a.recv.bytes_begin(), a.recv.bytes()),
                               .recv_counts = a.recv_rows,
                               .element_bytes = row_bytes(a.send),
                               .overlap = a.overlap});
  }

  const Communicator& group_;
};

/// Walks over blocks of bytes in pieces: one piece of every block a round, packed in rank order.
/// The own block is left out.
class BlockPieces {
 public:
  BlockPieces(std::span<const std::int64_t> rows, std::int64_t row_bytes, int own)
      : counts_(rows.size()) {
    std::int64_t begin = 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const std::int64_t bytes = rows[r] * row_bytes;
      blocks_.push_back({begin, static_cast<int>(r) == own ? 0 : bytes});
      begin += bytes;
    }
  }
  /// Bytes [at, at + piece) of each block, as far as it goes.
  void select(std::int64_t at, std::int64_t piece) {
    at_ = at;
    for (std::size_t r = 0; r < blocks_.size(); ++r) {
      counts_[r] = std::clamp<std::int64_t>(blocks_[r].bytes - at, 0, piece);
    }
  }
  [[nodiscard]] std::span<const std::int64_t> counts() const { return counts_; }
  [[nodiscard]] std::int64_t total() const {
    return std::accumulate(counts_.begin(), counts_.end(), std::int64_t{0});
  }
  [[nodiscard]] std::int64_t largest() const {
    std::int64_t most = 0;
    for (const Block& block : blocks_) most = std::max(most, block.bytes);
    return most;
  }
  /// body(offset in the tensor, offset in the packed pieces, bytes) for each selected piece.
  template <class Body>
  void for_each(Body body) const {
    std::int64_t packed = 0;
    for (std::size_t r = 0; r < blocks_.size(); ++r) {
      if (counts_[r] > 0) body(blocks_[r].begin + at_, packed, counts_[r]);
      packed += counts_[r];
    }
  }

 private:
  struct Block {
    std::int64_t begin, bytes;
  };
  std::vector<Block> blocks_;
  std::vector<std::int64_t> counts_;
  std::int64_t at_ = 0;
};

/// Device memory goes through one page-locked buffer. A piece is downloaded, waited for, exchanged,
/// and uploaded without a wait: the next download follows it on the same stream, and the host
/// touches the buffer only after that one has arrived.
class StagedCollectives final : public TensorCollectives {
 public:
  StagedCollectives(const Communicator& group, DeviceKind device, std::int64_t staging_bytes)
      : group_{group}, buffer_{device, group.size() > 1 ? staging_bytes : 0} {
    expect(group.size() == 1 || staging_bytes >= 2 * group.size() * kAlignment,
           "the staging buffer must hold a piece of every rank");
  }
  [[nodiscard]] int rank() const override { return group_.rank(); }
  [[nodiscard]] int size() const override { return group_.size(); }
  [[nodiscard]] bool capturable() const override { return only_copies(); }

 private:
  static constexpr std::int64_t kAlignment = 16;  ///< holds whole elements of every dtype

  void run_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op) override {
    for_pieces(data.bytes(), 1, [&](std::int64_t at, std::int64_t bytes) {
      download(exec, buffer_.data(), data.bytes_begin() + at, bytes);
      wait(exec, "all_reduce staging");
      group_.all_reduce_bytes(bytes_of(buffer_.data(), bytes), element_type_of(data.dtype()), op);
      upload(exec, data.bytes_begin() + at, buffer_.data(), bytes);
    });
  }

  void run_reduce_scatter(const Exec& exec, const ReduceScatter& a) override {
    const std::int64_t block = a.recv.bytes();
    for_pieces(block, size() + 1, [&](std::int64_t at, std::int64_t bytes) {
      for (int r = 0; r < size(); ++r) {
        download(exec, buffer_.data() + r * bytes, a.send.bytes_begin() + r * block + at, bytes);
      }
      wait(exec, "reduce_scatter staging");
      std::byte* result = buffer_.data() + size() * bytes;
      group_.reduce_scatter_bytes(bytes_of(buffer_.data(), size() * bytes), bytes_of(result, bytes),
                                  element_type_of(a.recv.dtype()), a.op);
      upload(exec, a.recv.bytes_begin() + at, result, bytes);
    });
  }

  void run_all_gather(const Exec& exec, const AllGather& a) override {
    const std::int64_t block = a.send.bytes();
    for_pieces(block, size() + 1, [&](std::int64_t at, std::int64_t bytes) {
      std::byte* mine = buffer_.data() + size() * bytes;
      download(exec, mine, a.send.bytes_begin() + at, bytes);
      wait(exec, "all_gather staging");
      group_.all_gather_bytes(bytes_of(mine, bytes), bytes_of(buffer_.data(), size() * bytes));
      for (int r = 0; r < size(); ++r) {
        upload(exec, a.recv.bytes_begin() + r * block + at, buffer_.data() + r * bytes, bytes);
      }
    });
  }

  void run_broadcast(const Exec& exec, const TensorView& data, int root) override {
    for_pieces(data.bytes(), 1, [&](std::int64_t at, std::int64_t bytes) {
      if (rank() == root) download(exec, buffer_.data(), data.bytes_begin() + at, bytes);
      wait(exec, "broadcast staging");  // a receiver waits until the buffer's last upload is over
      group_.broadcast_bytes(bytes_of(buffer_.data(), bytes), root);
      if (rank() != root) upload(exec, data.bytes_begin() + at, buffer_.data(), bytes);
    });
  }

  /// Every rank makes the same number of rounds, that of the largest block between any two ranks:
  /// known to the caller, or agreed upon first. The own block is a copy on the device.
  void run_all_to_all_rows(const Exec& exec, const AllToAllRows& a) override {
    const std::int64_t row = row_bytes(a.send);
    BlockPieces send{a.send_rows, row, rank()}, recv{a.recv_rows, row, rank()};
    copy_own(exec, a, row);
    std::int64_t largest = a.largest_block * row;
    if (a.largest_block < 0) {
      largest = group_.all_reduce_value(std::max(send.largest(), recv.largest()), ReduceOp::max);
    }
    expect(largest >= std::max(send.largest(), recv.largest()),
           "all_to_all_rows: a block exceeds the largest one announced");
    bool overlapped = !a.overlap;
    for_pieces(largest, 2 * size(), [&](std::int64_t at, std::int64_t piece) {
      send.select(at, piece);
      recv.select(at, piece);
      exchange_round(exec, a, {send, recv}, overlapped ? nullptr : &a.overlap);
      overlapped = true;
    });
    if (!overlapped) a.overlap();
  }

  struct Round {
    const BlockPieces& send;
    const BlockPieces& recv;
  };
  /// The overlapping work is enqueued behind the download, so that the device has it to do while
  /// the host exchanges.
  void exchange_round(const Exec& exec, const AllToAllRows& a, const Round& round,
                      const std::function<void()>* overlap) {
    std::byte* outgoing = buffer_.data();
    std::byte* incoming = outgoing + round.send.total();
    round.send.for_each([&](std::int64_t from, std::int64_t to, std::int64_t bytes) {
      download(exec, outgoing + to, a.send.bytes_begin() + from, bytes);
    });
    wait(exec, "all_to_all_rows staging");
    group_.all_to_all_v_bytes({.send = bytes_of(outgoing, round.send.total()),
                               .send_counts = round.send.counts(),
                               .recv = bytes_of(incoming, round.recv.total()),
                               .recv_counts = round.recv.counts(),
                               .element_bytes = 1,
                               .overlap = overlap == nullptr ? std::function<void()>{} : *overlap});
    round.recv.for_each([&](std::int64_t to, std::int64_t from, std::int64_t bytes) {
      upload(exec, a.recv.bytes_begin() + to, incoming + from, bytes);
    });
  }

  void copy_own(const Exec& exec, const AllToAllRows& a, std::int64_t row) const {
    std::int64_t from = 0, to = 0;
    for (std::size_t r = 0; r < static_cast<std::size_t>(rank()); ++r) {
      from += a.send_rows[r];
      to += a.recv_rows[r];
    }
    copy(exec, a.recv.bytes_begin() + to * row, a.send.bytes_begin() + from * row,
         a.send_rows[static_cast<std::size_t>(rank())] * row);
  }

  /// Pieces of [0, total) such that `shares` of them fit into the buffer.
  template <class Body>
  void for_pieces(std::int64_t total, std::int64_t shares, Body body) const {
    const std::int64_t piece = buffer_.bytes() / shares / kAlignment * kAlignment;
    for (std::int64_t at = 0; at < total; at += piece) body(at, std::min(piece, total - at));
  }

  void wait(const Exec& exec, std::string_view event) const {
    const Stopwatch watch;
    exec.synchronize();
    group_.journal()->waits().add(event, watch.seconds());
  }

  const Communicator& group_;
  HostBuffer buffer_;
};

}  // namespace

std::unique_ptr<TensorCollectives> make_host_collectives(const Communicator& group,
                                                         DeviceKind device,
                                                         const HostCollectivesOptions& options) {
  if (group.is_on_paper()) return std::make_unique<PaperCollectives>(group);
  if (device == DeviceKind::cpu && !options.always_stage) {
    return std::make_unique<DirectCollectives>(group);
  }
  return std::make_unique<StagedCollectives>(group, device, options.staging_bytes);
}

}  // namespace shoal::comm
