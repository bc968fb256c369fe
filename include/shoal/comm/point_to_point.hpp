#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/comm/message_plan.hpp"
#include "shoal/device/exec.hpp"
#include "shoal/tensor/view.hpp"

namespace shoal::comm {

/// A positive number that every MPI takes (at most 32767). Micro-batches repeat after 255: messages
/// of one direction and chunk between two ranks keep their order.
[[nodiscard]] int number_of(const MessageTag& tag);

/// Tensors from rank to rank, ordered with an Exec's stream; sizes are known on both sides. A send
/// returns as soon as its tensor may be reused by work given to the Exec afterwards. Contracts are
/// checked also on a dry Exec, where nothing else happens; in a group of one every call is an
/// Error.
class PointToPoint {
 public:
  virtual ~PointToPoint() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// Whether the calls may be captured into a CUDA graph: no host takes part.
  [[nodiscard]] virtual bool capturable() const = 0;

  void send(const Exec& exec, const ConstTensorView& data, int to, const MessageTag& tag);
  void recv(const Exec& exec, const TensorView& data, int from, const MessageTag& tag);
  /// The rank has come to this action of its plan. Gives the device the messages that are due, so
  /// that nothing in the action can hold them up. Without a plan nothing is due.
  void reach(const Exec& exec, int action);
  /// Every message so far is taken before this returns (when hosts send) or before anything that
  /// the Exec is given afterwards (when devices do). A rank must come here before it waits for
  /// others in any other way: a host that waits outside of MPI does not bring its messages on.
  void flush(const Exec& exec);
  /// Host seconds spent waiting for other ranks since the object was made.
  [[nodiscard]] virtual double seconds_waiting() const = 0;

 private:
  void check(int peer, const MessageTag& tag) const;
  virtual void run_send(const Exec& exec, const ConstTensorView& data, int to,
                        const MessageTag& tag) = 0;
  virtual void run_recv(const Exec& exec, const TensorView& data, int from,
                        const MessageTag& tag) = 0;
  virtual void run_reach(const Exec& exec, int action) = 0;
  virtual void run_flush(const Exec& exec) = 0;
};

struct HostPointToPointOptions {
  std::int64_t message_bytes = 0;  ///< of the largest message
  /// Messages that one channel, the way to one rank in one direction, can have under way. A sender
  /// waits when its channel is full, so the schedule must be known not to deadlock at this depth.
  int depth = 2;
  struct Channel {
    int to = 0;
    Direction direction = Direction::activation;
  };
  std::vector<Channel> channels;  ///< that this rank sends on
};

/// Over a Communicator by non-blocking sends from buffers of its own: the only memory it takes,
/// channels * depth * message_bytes on the host (page-locked for a GPU, with two more to receive
/// into). Waits for the device are named "send staging" and "recv staging" in the WaitLog; waits
/// for other ranks stand in the journal as recv and send_wait. `group` must outlive the result.
[[nodiscard]] std::unique_ptr<PointToPoint> make_host_point_to_point(
    const Communicator& group, DeviceKind device, const HostPointToPointOptions& options);

/// What either transport needs to know.
struct PointToPointOptions {
  HostPointToPointOptions host;
  MessagePlan plan;  ///< of device messages; host.message_bytes holds for them too
};

}  // namespace shoal::comm
