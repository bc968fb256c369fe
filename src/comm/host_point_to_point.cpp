#include <exception>
#include <string>

#include "shoal/base/clock.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/point_to_point.hpp"
#include "shoal/device/buffer.hpp"
#include "shoal/device/event.hpp"

namespace shoal::comm {
namespace {

/// A buffer and the message that leaves from it.
struct Outgoing {
  HostBuffer buffer;
  PendingSend pending;
};

/// The way to one rank in one direction: buffers used in turn, the oldest message first.
struct OutgoingChannel {
  HostPointToPointOptions::Channel key;
  std::vector<Outgoing> ring;
  std::size_t next = 0;
};

/// A buffer that device memory is received through, free again when its upload is done.
struct Incoming {
  HostBuffer buffer;
  Event uploaded;
};

class HostPointToPoint final : public PointToPoint {
 public:
  HostPointToPoint(const Communicator& group, DeviceKind device,
                   const HostPointToPointOptions& options)
      : group_{group} {
    expect(options.depth >= 1, "point to point: a channel holds at least one message");
    if (group.is_on_paper()) return;  // a plan takes no memory and needs no GPU
    for (const auto& key : options.channels) {
      OutgoingChannel& channel = channels_.emplace_back();
      channel.key = key;
      for (int i = 0; i < options.depth; ++i) {
        channel.ring.push_back({HostBuffer{device, options.message_bytes}, {}});
      }
    }
    for (int i = 0; device == DeviceKind::cuda && i < kIncoming; ++i) {
      incoming_.push_back({HostBuffer{device, options.message_bytes}, Event{device}});
    }
  }

  /// Buffers must not vanish under messages; while an exception ends the job nobody takes them.
  ~HostPointToPoint() override {
    if (std::uncaught_exceptions() > 0) return;
    try {
      wait_for_all();
    } catch (const std::exception&) {  // the job ends with the error that broke the connection
    }
  }
  HostPointToPoint(const HostPointToPoint&) = delete;
  HostPointToPoint& operator=(const HostPointToPoint&) = delete;

  [[nodiscard]] int rank() const override { return group_.rank(); }
  [[nodiscard]] int size() const override { return group_.size(); }
  [[nodiscard]] double seconds_waiting() const override { return seconds_waiting_; }
  [[nodiscard]] bool capturable() const override { return false; }

 private:
  static constexpr int kIncoming = 2;

  void run_reach(const Exec&, int) override {}
  void run_flush(const Exec&) override { wait_for_all(); }

  /// MPI brings large messages on only while their sender is in one of its calls.
  void wait_for_all() {
    for (OutgoingChannel& channel : channels_) {
      for (Outgoing& out : channel.ring) wait(out.pending);
    }
  }

  void run_send(const Exec& exec, const ConstTensorView& data, int to,
                const MessageTag& tag) override {
    Outgoing& out = next_buffer(to, tag.direction);
    expect(data.bytes() <= out.buffer.bytes(), "point to point: larger than message_bytes");
    wait(out.pending);
    download(exec, out.buffer.data(), data.bytes_begin(), data.bytes());
    if (exec.on_gpu()) {
      const Stopwatch watch;
      exec.synchronize();
      group_.journal()->waits().add("send staging", watch.seconds());
    }
    out.pending = group_.post_send_bytes(
        {out.buffer.data(), static_cast<std::size_t>(data.bytes())}, to, number_of(tag));
  }

  void run_recv(const Exec& exec, const TensorView& data, int from,
                const MessageTag& tag) override {
    const auto bytes = static_cast<std::size_t>(data.bytes());
    if (!exec.on_gpu()) return receive({data.bytes_begin(), bytes}, from, tag);
    Incoming& in = incoming_[turn_++ % incoming_.size()];
    expect(data.bytes() <= in.buffer.bytes(), "point to point: larger than message_bytes");
    const Stopwatch watch;
    in.uploaded.wait();
    group_.journal()->waits().add("recv staging", watch.seconds());
    receive({in.buffer.data(), bytes}, from, tag);
    upload(exec, data.bytes_begin(), in.buffer.data(), data.bytes());
    in.uploaded.record(exec);
  }

  void receive(std::span<std::byte> into, int from, const MessageTag& tag) {
    const Stopwatch watch;
    group_.recv_tagged_bytes(into, from, number_of(tag));
    seconds_waiting_ += watch.seconds();
  }

  void wait(PendingSend& pending) {
    if (pending.done()) return;
    const Stopwatch watch;
    group_.wait_send(pending);
    seconds_waiting_ += watch.seconds();
  }

  [[nodiscard]] Outgoing& next_buffer(int to, Direction direction) {
    for (OutgoingChannel& channel : channels_) {
      if (channel.key.to != to || channel.key.direction != direction) continue;
      return channel.ring[channel.next++ % channel.ring.size()];
    }
    fail("point to point", "no channel to rank " + std::to_string(to) + " in this direction");
  }

  const Communicator& group_;
  std::vector<OutgoingChannel> channels_;
  std::vector<Incoming> incoming_;  ///< device memory only
  std::size_t turn_ = 0;
  double seconds_waiting_ = 0.0;
};

}  // namespace

std::unique_ptr<PointToPoint> make_host_point_to_point(const Communicator& group, DeviceKind device,
                                                       const HostPointToPointOptions& options) {
  return std::make_unique<HostPointToPoint>(group, device, options);
}

}  // namespace shoal::comm
