#include "comm/transport.hpp"
#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

/// A place in a group that exists on paper: it has a rank and a size, and nobody answers.
class PaperTransport final : public Transport {
 public:
  PaperTransport(int rank, int size) : rank_{rank}, size_{size} {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] bool on_paper() const override { return true; }
  [[nodiscard]] std::unique_ptr<Transport> split(int, int) override { nobody(); }
  void barrier() override { nobody(); }
  void broadcast(std::span<std::byte>, int) override { nobody(); }
  void all_gather(std::span<const std::byte>, std::byte*) override { nobody(); }
  void all_gather_v(std::span<const std::byte>, std::byte*, Blocks) override { nobody(); }
  void gather_v(std::span<const std::byte>, std::byte*, Blocks, int) override { nobody(); }
  void all_to_all_v(const std::byte*, Blocks, std::byte*, Blocks,
                    const std::function<void()>&) override {
    nobody();
  }
  [[nodiscard]] std::unique_ptr<PendingSend::Request> post_all_to_all_v(const std::byte*, Blocks,
                                                                        std::byte*, Blocks,
                                                                        int) override {
    nobody();
  }
  void send(std::span<const std::byte>, int) override { nobody(); }
  void recv(std::span<std::byte>, int) override { nobody(); }
  void send_recv(std::span<const std::byte>, int, std::span<std::byte>, int) override { nobody(); }
  [[nodiscard]] std::unique_ptr<PendingSend::Request> post_send(std::span<const std::byte>, int,
                                                                int) override {
    nobody();
  }
  void recv_tagged(std::span<std::byte>, int, int) override { nobody(); }

 private:
  [[noreturn]] static void nobody() { fail("comm", "a group on paper cannot communicate"); }
  int rank_, size_;
};

}  // namespace

std::unique_ptr<Transport> make_paper_transport(int rank, int size) {
  return std::make_unique<PaperTransport>(rank, size);
}

}  // namespace shoal::comm
