#include "shoal/comm/point_to_point.hpp"

#include <string>

#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

// 2 * 64 * 255 tags above the one of Communicator::send stay below 32767, which MPI guarantees.
constexpr int kFirstTag = 2;
constexpr int kChunks = 64;
constexpr int kMicroBatches = 255;

}  // namespace

int number_of(const MessageTag& tag) {
  expect(tag.chunk >= 0 && tag.chunk < kChunks, "a message's chunk must be below 64");
  expect(tag.micro_batch >= 0, "a message's micro-batch must not be negative");
  const int direction = tag.direction == Direction::gradient ? 1 : 0;
  return kFirstTag + direction + 2 * (tag.chunk + kChunks * (tag.micro_batch % kMicroBatches));
}

void PointToPoint::check(int peer, const MessageTag& tag) const {
  static_cast<void>(number_of(tag));
  expect(size() > 1, "point to point: a group of one has nobody to send to");
  expect(peer >= 0 && peer < size() && peer != rank(), "point to point: " + std::to_string(peer) +
                                                           " is no other rank of the group of " +
                                                           std::to_string(size()));
}

void PointToPoint::send(const Exec& exec, const ConstTensorView& data, int to,
                        const MessageTag& tag) {
  check(to, tag);
  if (exec.is_dry()) return;
  run_send(exec, data, to, tag);
}

void PointToPoint::recv(const Exec& exec, const TensorView& data, int from, const MessageTag& tag) {
  check(from, tag);
  if (exec.is_dry()) return;
  run_recv(exec, data, from, tag);
}

void PointToPoint::reach(const Exec& exec, int action) {
  if (!exec.is_dry()) run_reach(exec, action);
}

void PointToPoint::flush(const Exec& exec) {
  if (!exec.is_dry()) run_flush(exec);
}

}  // namespace shoal::comm
