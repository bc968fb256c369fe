#pragma once
#include <cstdint>
#include <vector>

#include "shoal/device/exec.hpp"
#include "shoal/tensor/view.hpp"

namespace shoal::comm {

/// Which way a message of a pipeline goes through the model.
enum class Direction { activation, gradient };

/// What a message is about; sender and receiver name the same.
struct MessageTag {
  Direction direction = Direction::activation;
  int chunk = 0;  ///< local chunk of the receiver, below 64
  int micro_batch = 0;
  bool operator==(const MessageTag&) const = default;
};

/// One message as one of its two sides sees it.
struct PlannedMessage {
  bool sends = false;
  int peer = 0;
  MessageTag tag;
  int buffer = -1;  ///< where an arriving message waits until it is received; -1 when it is sent
};

/// The messages of one rank in the order in which its device carries them out: tick after tick, the
/// messages of a tick together. Devices know no tags and take messages strictly in turn, so all
/// ranks order them by one clock, that of a possible execution: what a message waits for then
/// happens at earlier ticks, on whatever rank, and no order of the rest can close a circle.
struct MessagePlan {
  using Tick = std::vector<PlannedMessage>;  ///< at most one of them is sent
  std::vector<Tick> ticks;
  std::vector<int> due;  ///< [actions]: how many ticks the device has been given before each action
  int arrivals = 0;      ///< buffers that arriving messages wait in
};

/// Device memory of a plan, from the arena: the messages that leave and those that have arrived.
struct MessageBuffers {
  std::vector<TensorView> leaving, arriving;  ///< u8 [message_bytes] each
};
[[nodiscard]] MessageBuffers reserve_buffers(const Exec& exec, const MessagePlan& plan,
                                             std::int64_t message_bytes);

}  // namespace shoal::comm
