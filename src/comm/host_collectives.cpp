#include <algorithm>

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

/// Host memory needs no staging.
class DirectCollectives final : public TensorCollectives {
 public:
  explicit DirectCollectives(const Communicator& group) : group_{group} {}
  [[nodiscard]] int rank() const override { return group_.rank(); }
  [[nodiscard]] int size() const override { return group_.size(); }
  [[nodiscard]] bool capturable() const override { return false; }

 private:
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

  const Communicator& group_;
};

/// Device memory goes through one page-locked buffer. A piece is downloaded, waited for, exchanged,
/// and uploaded without a wait: the next download follows it on the same stream, and the host
/// touches the buffer only after that one has arrived.
class StagedCollectives final : public TensorCollectives {
 public:
  StagedCollectives(const Communicator& group, DeviceKind device, std::int64_t staging_bytes)
      : group_{group}, buffer_{device, group.size() > 1 ? staging_bytes : 0} {
    expect(group.size() == 1 || staging_bytes >= (group.size() + 1) * kAlignment,
           "the staging buffer must hold a piece of every rank");
  }
  [[nodiscard]] int rank() const override { return group_.rank(); }
  [[nodiscard]] int size() const override { return group_.size(); }
  [[nodiscard]] bool capturable() const override { return false; }

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

/// Of a group on paper: a dry Exec never comes to the calls, and nothing is allocated.
class PaperCollectives final : public TensorCollectives {
 public:
  explicit PaperCollectives(const Communicator& group) : rank_{group.rank()}, size_{group.size()} {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] bool capturable() const override { return false; }

 private:
  [[noreturn]] static void nobody() { fail("comm", "a group on paper cannot communicate"); }
  void run_all_reduce(const Exec&, const TensorView&, ReduceOp) override { nobody(); }
  void run_reduce_scatter(const Exec&, const ReduceScatter&) override { nobody(); }
  void run_all_gather(const Exec&, const AllGather&) override { nobody(); }
  void run_broadcast(const Exec&, const TensorView&, int) override { nobody(); }

  int rank_, size_;
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
