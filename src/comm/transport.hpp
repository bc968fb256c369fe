#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "shoal/comm/pending_send.hpp"

namespace shoal::comm {

/// Where blocks of a buffer lie, in bytes, one a rank.
struct Blocks {
  std::span<const std::int64_t> bytes;
  std::span<const std::int64_t> offsets;
};

/// Moves bytes between the ranks of one group. Sizes have been checked before. Arithmetic,
/// tracing and types live above, so a back end is these few functions.
class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual bool on_paper() const { return false; }
  [[nodiscard]] virtual std::unique_ptr<Transport> split(int color, int key) = 0;
  virtual void barrier() = 0;
  virtual void broadcast(std::span<std::byte> data, int root) = 0;
  virtual void all_gather(std::span<const std::byte> send, std::byte* recv) = 0;
  virtual void all_gather_v(std::span<const std::byte> send, std::byte* recv, Blocks blocks) = 0;
  virtual void gather_v(std::span<const std::byte> send, std::byte* recv, Blocks blocks,
                        int root) = 0;
  /// `overlap`, unless empty, runs once while the messages are under way.
  virtual void all_to_all_v(const std::byte* send, Blocks send_blocks, std::byte* recv,
                            Blocks recv_blocks, const std::function<void()>& overlap) = 0;
  /// The same without a wait; blocks must stay untouched. `round` (0 or 1) keeps messages of two
  /// calls apart that the ranks may start in another order. Null when nothing is under way.
  [[nodiscard]] virtual std::unique_ptr<PendingSend::Request> post_all_to_all_v(
      const std::byte* send, Blocks send_blocks, std::byte* recv, Blocks recv_blocks,
      int round) = 0;
  virtual void send(std::span<const std::byte> data, int to) = 0;
  virtual void recv(std::span<std::byte> data, int from) = 0;
  virtual void send_recv(std::span<const std::byte> data, int to, std::span<std::byte> into,
                         int from) = 0;
  [[nodiscard]] virtual std::unique_ptr<PendingSend::Request> post_send(
      std::span<const std::byte> data, int to, int tag) = 0;
  virtual void recv_tagged(std::span<std::byte> data, int from, int tag) = 0;
};

[[nodiscard]] std::unique_ptr<Transport> make_self_transport();
[[nodiscard]] std::unique_ptr<Transport> make_mpi_world_transport();
[[nodiscard]] std::unique_ptr<Transport> make_paper_transport(int rank, int size);

}  // namespace shoal::comm
