#include "comm/nccl_point_to_point.hpp"

#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

/// Messages that may have left the Exec's stream and not yet this rank.
constexpr std::size_t kLeaving = 2;
/// The points that do not belong to a buffer: where the stream beside starts and ends.
constexpr int kStart = 0, kEnd = 1, kFirst = 2;

}  // namespace

MessageBuffers reserve_buffers(const Exec& exec, const MessagePlan& plan,
                               std::int64_t message_bytes) {
  const auto reserve = [&](std::vector<TensorView>& buffers, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      buffers.push_back(persistent(exec, {message_bytes}, DType::u8, MemoryKind::batch));
    }
  };
  MessageBuffers buffers;
  reserve(buffers.leaving, kLeaving);
  reserve(buffers.arriving, static_cast<std::size_t>(plan.arrivals));
  return buffers;
}

int NcclPointToPoint::points_of(const MessagePlan& plan) {
  return kFirst + 2 * (static_cast<int>(kLeaving) + plan.arrivals);
}

NcclPointToPoint::NcclPointToPoint(Parts parts) : parts_{std::move(parts)} {
  int point = kFirst;
  for (const TensorView& buffer : parts_.buffers.leaving) {
    leaving_.push_back({.buffer = buffer, .filled = point, .sent = point + 1});
    point += 2;
  }
  for (const TensorView& buffer : parts_.buffers.arriving) {
    arriving_.push_back({.buffer = buffer, .arrived = point, .taken = point + 1, .message = {}});
    point += 2;
  }
  expect(point == points_of(parts_.plan), "point to point: the buffers are those of another plan");
  parts_.session->watch(*parts_.comm);
}

NcclPointToPoint::~NcclPointToPoint() {
  parts_.session->forget(*parts_.comm);
}

void NcclPointToPoint::run_send(const Exec& exec, const ConstTensorView& data, int to,
                                const MessageTag& tag) {
  Leaving& out = leaving_[turn_++ % leaving_.size()];
  expect(data.bytes() == out.buffer.bytes(), "point to point: not of message_bytes");
  CUstream_st* main = exec.cuda().stream;
  if (out.was_sent) parts_.queue->wait(out.sent, main);
  copy(exec, out.buffer.bytes_begin(), data.bytes_begin(), data.bytes());
  parts_.queue->mark(out.filled, main);
  made_ = {.from = &out, .to = to, .tag = tag};
  for (std::size_t i = 0; made_.from != nullptr; ++i) {
    expect(i < parts_.plan.ticks.size(), "point to point: a message that is in no plan");
    give_tick(exec);
  }
}

void NcclPointToPoint::run_recv(const Exec& exec, const TensorView& data, int from,
                                const MessageTag& tag) {
  Arriving* in = find(from, tag);
  for (std::size_t i = 0; in == nullptr; ++i) {
    expect(i < parts_.plan.ticks.size(), "point to point: a message that is in no plan");
    give_tick(exec);
    in = find(from, tag);
  }
  expect(data.bytes() == in->buffer.bytes(), "point to point: not of message_bytes");
  CUstream_st* main = exec.cuda().stream;
  parts_.queue->wait(in->arrived, main);
  copy(exec, data.bytes_begin(), in->buffer.bytes_begin(), data.bytes());
  parts_.queue->mark(in->taken, main);
  in->was_taken = true;
  in->full = false;
}

void NcclPointToPoint::run_reach(const Exec& exec, int action) {
  const auto due = static_cast<std::size_t>(parts_.plan.due.at(static_cast<std::size_t>(action)));
  while (next_ < due) give_tick(exec);
}

/// The Exec's stream goes on behind the last message; nothing of before has to be waited for again.
void NcclPointToPoint::run_flush(const Exec& exec) {
  expect(next_ == 0 || next_ == parts_.plan.ticks.size(),
         "point to point: messages of the plan were left out");
  if (started_) {
    parts_.queue->mark(kEnd, parts_.queue->stream());
    parts_.queue->wait(kEnd, exec.cuda().stream);
  }
  for (Leaving& out : leaving_) out.was_sent = false;
  for (Arriving& in : arriving_) in.was_taken = false;
  started_ = false;
  next_ = 0;
}

/// The stream beside takes up where the Exec's is.
void NcclPointToPoint::start(const Exec& exec) {
  if (std::exchange(started_, true)) return;
  parts_.queue->mark(kStart, exec.cuda().stream);
  parts_.queue->wait(kStart, parts_.queue->stream());
}

void NcclPointToPoint::give_tick(const Exec& exec) {
  start(exec);
  if (next_ == parts_.plan.ticks.size()) next_ = 0;
  const MessagePlan::Tick& tick = parts_.plan.ticks[next_++];
  CUstream_st* side = parts_.queue->stream();
  wait_for_buffers(tick);
  std::vector<std::int64_t> entries;
  for (const PlannedMessage& m : tick) {
    entries.push_back(parts_.session->journal().begin(m.sends ? Operation::send : Operation::recv,
                                                      parts_.name, leaving_.front().buffer.bytes(),
                                                      parts_.journal_group));
  }
  parts_.comm->group_start();
  for (const PlannedMessage& m : tick) issue(m);
  parts_.comm->group_end();
  for (const PlannedMessage& m : tick) {
    if (!m.sends) {
      Arriving& in = arriving_.at(static_cast<std::size_t>(m.buffer));
      parts_.queue->mark(in.arrived, side);
      in.message = m;
      in.full = true;
    } else {
      Leaving* out = std::exchange(made_, {}).from;
      expect(out != nullptr, "a message of this tick was not made");
      parts_.queue->mark(out->sent, side);
      out->was_sent = true;
    }
  }
  for (const std::int64_t entry : entries) parts_.session->end_with_stream(entry, side);
}

/// Until what leaves has been copied, and what lay where something arrives has been taken.
void NcclPointToPoint::wait_for_buffers(const MessagePlan::Tick& tick) {
  CUstream_st* side = parts_.queue->stream();
  for (const PlannedMessage& m : tick) {
    if (m.sends) {
      expect(made_.from != nullptr && made_.to == m.peer && made_.tag == m.tag,
             "point to point: a message is due before it is made");
      parts_.queue->wait(made_.from->filled, side);
      continue;
    }
    const Arriving& in = arriving_.at(static_cast<std::size_t>(m.buffer));
    expect(!in.full, "point to point: a message arrives where another one lies");
    if (in.was_taken) parts_.queue->wait(in.taken, side);
  }
}

void NcclPointToPoint::issue(const PlannedMessage& m) {
  const TensorView& buffer =
      m.sends ? made_.from->buffer : arriving_.at(static_cast<std::size_t>(m.buffer)).buffer;
  const NcclCall call{.op = m.sends ? Operation::send : Operation::recv,
                      .count = buffer.bytes(),
                      .type = ElementType::u8,
                      .peer = m.peer};
  const NcclBuffers memory = m.sends ? NcclBuffers{buffer.bytes_begin(), nullptr}
                                     : NcclBuffers{nullptr, buffer.bytes_begin()};
  parts_.comm->issue(call, memory, parts_.queue->stream());
}

NcclPointToPoint::Arriving* NcclPointToPoint::find(int from, const MessageTag& tag) {
  for (Arriving& in : arriving_) {
    if (in.full && in.message.peer == from && in.message.tag == tag) return &in;
  }
  return nullptr;
}

}  // namespace shoal::comm
