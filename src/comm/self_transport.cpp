#include <cstring>

#include "comm/transport.hpp"
#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

void copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes > 0 && to != from) std::memmove(to, from, bytes);
}

/// A group of one: every collective is a copy, and there is nobody to send to.
class SelfTransport final : public Transport {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int size() const override { return 1; }
  [[nodiscard]] std::unique_ptr<Transport> split(int, int) override {
    return make_self_transport();
  }
  void barrier() override {}
  void broadcast(std::span<std::byte>, int) override {}
  void all_gather(std::span<const std::byte> send, std::byte* recv) override {
    copy(recv, send.data(), send.size());
  }
  void all_gather_v(std::span<const std::byte> send, std::byte* recv, Blocks) override {
    copy(recv, send.data(), send.size());
  }
  void gather_v(std::span<const std::byte> send, std::byte* recv, Blocks, int) override {
    copy(recv, send.data(), send.size());
  }
  void all_to_all_v(const std::byte* send, Blocks blocks, std::byte* recv, Blocks,
                    const std::function<void()>& overlap) override {
    copy(recv, send, static_cast<std::size_t>(blocks.bytes[0]));
    if (overlap) overlap();
  }
  [[nodiscard]] std::unique_ptr<PendingSend::Request> post_all_to_all_v(const std::byte* send,
                                                                        Blocks blocks,
                                                                        std::byte* recv, Blocks,
                                                                        int) override {
    copy(recv, send, static_cast<std::size_t>(blocks.bytes[0]));
    return nullptr;
  }
  void send(std::span<const std::byte>, int) override { nobody(); }
  void recv(std::span<std::byte>, int) override { nobody(); }
  [[nodiscard]] std::unique_ptr<PendingSend::Request> post_send(std::span<const std::byte>, int,
                                                                int) override {
    nobody();
  }
  void recv_tagged(std::span<std::byte>, int, int) override { nobody(); }
  void send_recv(std::span<const std::byte> data, int, std::span<std::byte> into, int) override {
    expect(data.size() == into.size(), "send_recv with oneself: sizes differ");
    copy(into.data(), data.data(), data.size());
  }

 private:
  [[noreturn]] static void nobody() { fail("comm", "a group of one has nobody to send to"); }
};

}  // namespace

std::unique_ptr<Transport> make_self_transport() {
  return std::make_unique<SelfTransport>();
}

}  // namespace shoal::comm
