#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "comm/mpi_check.hpp"
#include "comm/transport.hpp"
#include "shoal/base/unique_handle.hpp"

namespace shoal::comm {
namespace {

constexpr int kTag = 1;
/// MPI counts are int; one message carries at most this many bytes, longer ones go in pieces.
constexpr std::int64_t kMaxMessage = std::int64_t{1} << 30;
constexpr std::int64_t kMaxInt = std::numeric_limits<int>::max();

struct CommTraits {
  using Raw = MPI_Comm;
  static Raw null() noexcept { return MPI_COMM_NULL; }
  static void close(Raw comm) noexcept {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (finalized == 0) MPI_Comm_free(&comm);
  }
};
using CommHandle = UniqueHandle<CommTraits>;

[[nodiscard]] bool fits_int(Blocks blocks) {
  std::int64_t end = 0;
  for (std::size_t r = 0; r < blocks.bytes.size(); ++r) {
    end = std::max(end, blocks.offsets[r] + blocks.bytes[r]);
  }
  return end <= kMaxInt;
}

[[nodiscard]] std::vector<int> to_int(std::span<const std::int64_t> values) {
  std::vector<int> narrow(values.size());
  std::transform(values.begin(), values.end(), narrow.begin(),
                 [](std::int64_t v) { return static_cast<int>(v); });
  return narrow;
}

void wait_all(std::vector<MPI_Request>& requests) {
  check_mpi(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE));
}

/// Messages on their way, or the pieces of one.
struct PostedMessages final : PendingSend::Request {
  std::vector<MPI_Request> requests;
  [[nodiscard]] bool done() override {
    int all = 0;
    check_mpi(
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &all, MPI_STATUSES_IGNORE));
    return all != 0;
  }
  void wait() override { wait_all(requests); }
};

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(CommHandle comm) : comm_{std::move(comm)} {
    check_mpi(MPI_Comm_set_errhandler(comm_.get(), MPI_ERRORS_RETURN));
    check_mpi(MPI_Comm_rank(comm_.get(), &rank_));
    check_mpi(MPI_Comm_size(comm_.get(), &size_));
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }

  [[nodiscard]] std::unique_ptr<Transport> split(int color, int key) override {
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_.get(), color, key, &part));
    auto made = std::make_unique<MpiTransport>(CommHandle{part});
    if (made->size() == 1) return make_self_transport();
    return made;
  }

  void barrier() override { check_mpi(MPI_Barrier(comm_.get())); }

  void broadcast(std::span<std::byte> data, int root) override {
    for_pieces(data.size(), [&](std::int64_t at, int bytes) {
      check_mpi(MPI_Bcast(data.data() + at, bytes, MPI_BYTE, root, comm_.get()));
    });
  }

  void all_gather(std::span<const std::byte> send, std::byte* recv) override {
    const auto bytes = static_cast<std::int64_t>(send.size());
    if (bytes <= kMaxMessage) {
      const int count = static_cast<int>(bytes);
      check_mpi(MPI_Allgather(send.data(), count, MPI_BYTE, recv, count, MPI_BYTE, comm_.get()));
      return;
    }
    for (int r = 0; r < size_; ++r) {
      std::byte* block = recv + r * bytes;
      if (r == rank_ && block != send.data()) std::memcpy(block, send.data(), send.size());
      broadcast({block, send.size()}, r);
    }
  }

  void all_gather_v(std::span<const std::byte> send, std::byte* recv, Blocks blocks) override {
    if (fits_int(blocks)) {
      const auto counts = to_int(blocks.bytes), offsets = to_int(blocks.offsets);
      check_mpi(MPI_Allgatherv(send.data(), static_cast<int>(send.size()), MPI_BYTE, recv,
                               counts.data(), offsets.data(), MPI_BYTE, comm_.get()));
      return;
    }
    for (int r = 0; r < size_; ++r) {
      std::byte* block = recv + blocks.offsets[static_cast<std::size_t>(r)];
      if (r == rank_ && block != send.data()) std::memcpy(block, send.data(), send.size());
      broadcast({block, static_cast<std::size_t>(blocks.bytes[static_cast<std::size_t>(r)])}, r);
    }
  }

  void gather_v(std::span<const std::byte> data, std::byte* into, Blocks blocks,
                int root) override {
    if (rank_ != root) return send(data, root);
    for (int r = 0; r < size_; ++r) {
      const auto i = static_cast<std::size_t>(r);
      std::byte* block = into + blocks.offsets[i];
      if (r == root) {
        if (!data.empty()) std::memcpy(block, data.data(), data.size());
      } else {
        recv({block, static_cast<std::size_t>(blocks.bytes[i])}, r);
      }
    }
  }

  /// Point to point rather than MPI_Alltoallv: no limit of 2^31 bytes, and no rank has to know
  /// whether another one's blocks exceed it.
  void all_to_all_v(const std::byte* from, Blocks from_blocks, std::byte* into, Blocks into_blocks,
                    const std::function<void()>& overlap) override {
    std::vector<MPI_Request> requests;
    post_blocks({from, from_blocks}, {into, into_blocks}, kTag, requests);
    if (overlap) overlap();
    wait_all(requests);
  }

  [[nodiscard]] std::unique_ptr<PendingSend::Request> post_all_to_all_v(const std::byte* from,
                                                                        Blocks from_blocks,
                                                                        std::byte* into,
                                                                        Blocks into_blocks,
                                                                        int round) override {
    auto posted = std::make_unique<PostedMessages>();
    post_blocks({from, from_blocks}, {into, into_blocks}, round, posted->requests);
    return posted;
  }

  [[nodiscard]] std::unique_ptr<PendingSend::Request> post_send(std::span<const std::byte> data,
                                                                int to, int tag) override {
    auto posted = std::make_unique<PostedMessages>();
    post_send(data, to, posted->requests, tag);
    return posted;
  }

  void send(std::span<const std::byte> data, int to) override {
    for_pieces(data.size(), [&](std::int64_t at, int bytes) {
      check_mpi(MPI_Send(data.data() + at, bytes, MPI_BYTE, to, kTag, comm_.get()));
    });
  }

  void recv(std::span<std::byte> data, int from) override { recv_tagged(data, from, kTag); }

  void recv_tagged(std::span<std::byte> data, int from, int tag) override {
    for_pieces(data.size(), [&](std::int64_t at, int bytes) {
      MPI_Status status;
      check_mpi(MPI_Recv(data.data() + at, bytes, MPI_BYTE, from, tag, comm_.get(), &status));
      int got = 0;
      check_mpi(MPI_Get_count(&status, MPI_BYTE, &got));
      expect(got == bytes, "received " + std::to_string(got) + " bytes from rank " +
                               std::to_string(from) + ", expected " + std::to_string(bytes));
    });
  }

  void send_recv(std::span<const std::byte> data, int to, std::span<std::byte> into,
                 int from) override {
    std::vector<MPI_Request> requests;
    post_recv(into, from, requests);
    post_send(data, to, requests);
    wait_all(requests);
  }

 private:
  template <class Piece>
  static void for_pieces(std::size_t total, Piece piece) {
    for (std::int64_t at = 0; at < static_cast<std::int64_t>(total); at += kMaxMessage) {
      piece(at, static_cast<int>(std::min(kMaxMessage, static_cast<std::int64_t>(total) - at)));
    }
  }

  /// Blocks of a buffer, one a rank.
  template <class Byte>
  struct Buffer {
    Byte* data;
    Blocks blocks;
    [[nodiscard]] std::span<Byte> of(int rank) const {
      const auto i = static_cast<std::size_t>(rank);
      return {data + blocks.offsets[i], static_cast<std::size_t>(blocks.bytes[i])};
    }
  };
  /// All messages between this rank and the others; the own block is copied.
  void post_blocks(const Buffer<const std::byte>& from, const Buffer<std::byte>& into, int tag,
                   std::vector<MPI_Request>& requests) {
    for (int shift = 1; shift < size_; ++shift) {
      const int peer = (rank_ - shift + size_) % size_;
      post_recv(into.of(peer), peer, requests, tag);
    }
    for (int shift = 1; shift < size_; ++shift) {
      const int peer = (rank_ + shift) % size_;
      post_send(from.of(peer), peer, requests, tag);
    }
    const auto own = from.of(rank_);
    std::byte* to = into.of(rank_).data();
    if (!own.empty() && to != own.data()) std::memcpy(to, own.data(), own.size());
  }

  void post_recv(std::span<std::byte> into, int from, std::vector<MPI_Request>& requests,
                 int tag = kTag) {
    for_pieces(into.size(), [&](std::int64_t at, int bytes) {
      check_mpi(MPI_Irecv(into.data() + at, bytes, MPI_BYTE, from, tag, comm_.get(),
                          &requests.emplace_back(MPI_REQUEST_NULL)));
    });
  }

  void post_send(std::span<const std::byte> data, int to, std::vector<MPI_Request>& requests,
                 int tag = kTag) {
    for_pieces(data.size(), [&](std::int64_t at, int bytes) {
      check_mpi(MPI_Isend(data.data() + at, bytes, MPI_BYTE, to, tag, comm_.get(),
                          &requests.emplace_back(MPI_REQUEST_NULL)));
    });
  }

  CommHandle comm_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_world_transport() {
  MPI_Comm copy = MPI_COMM_NULL;  // our own context: messages of other libraries cannot match ours
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &copy));
  auto made = std::make_unique<MpiTransport>(CommHandle{copy});
  if (made->size() == 1) return make_self_transport();
  return made;
}

}  // namespace shoal::comm
