#include "comm/nccl_point_to_point.hpp"

#include <gtest/gtest.h>

#include "recording_nccl.hpp"
#include "recording_queue.hpp"
#include "shoal/base/error.hpp"
#include "shoal/tensor/tensor.hpp"
#include "support/throws.hpp"

namespace shoal::comm {
namespace {

using Lines = std::vector<std::string>;
constexpr std::int64_t kBytes = 64;

MessageTag micro_batch(int i) {
  return {Direction::activation, 0, i};
}
PlannedMessage sent(int i) {
  return {.sends = true, .peer = 1, .tag = micro_batch(i)};
}
PlannedMessage arrives(int i, int buffer) {
  return {.peer = 1, .tag = {Direction::gradient, 0, i}, .buffer = buffer};
}

/// Rank 0 of two, whose calls are written down: marks and waits as lines, messages in the log.
class NcclMessages : public ::testing::Test {
 protected:
  void follow(const MessagePlan& plan) {
    links_ = std::make_unique<NcclPointToPoint>(NcclPointToPoint::Parts{
        .name = "pp",
        .comm = std::make_unique<RecordingNccl>(RecordedGroup{"pp", {0, 1}}, 0, recorded_.log),
        .queue = std::make_unique<RecordingQueue>(lines_),
        .session = recorded_.session,
        .plan = plan,
        .buffers = reserve_buffers(exec_, plan, kBytes)});
  }
  void send(int i) { links_->send(exec_, data_, 1, micro_batch(i)); }
  void recv(int i) { links_->recv(exec_, data_, 1, {Direction::gradient, 0, i}); }
  /// What was written down since the last look.
  [[nodiscard]] Lines seen() { return std::exchange(*lines_, {}); }
  /// "send", "recv", ... with the number of their batch.
  [[nodiscard]] Lines messages() const {
    Lines lines;
    for (const RecordedCall& c : recorded_.log->calls().calls) {
      lines.push_back(std::string{name(c.op)} + " " + std::to_string(c.batch));
    }
    return lines;
  }

  Exec exec_{DeviceKind::cpu, ArenaPlan{.persistent = 4096}};
  Tensor data_{DeviceKind::cpu, {kBytes / 4}, DType::f32};
  RecordedRank recorded_{0, 2};
  std::shared_ptr<Lines> lines_ = std::make_shared<Lines>();
  std::unique_ptr<NcclPointToPoint> links_;
};

// Points: 0 start, 1 end; leaving buffers 2 filled, 3 sent and 4 filled, 5 sent; arriving buffers
// 6 arrived, 7 taken and so on.

TEST_F(NcclMessages, WaitForWhatTheyNeedAndForNothingElse) {
  follow({.ticks = {{sent(0)}, {sent(1), arrives(0, 0)}, {sent(2)}}, .due = {}, .arrivals = 1});
  send(0);
  EXPECT_EQ(seen(), (Lines{"mark 2", "mark 0", "wait 0 beside", "wait 2 beside", "mark 3 beside"}));
  send(1);
  EXPECT_EQ(seen(), (Lines{"mark 4", "wait 4 beside", "mark 5 beside", "mark 6 beside"}));
  recv(0);
  EXPECT_EQ(seen(), (Lines{"wait 6", "mark 7"}));
  send(2);  // from the first buffer again
  EXPECT_EQ(seen(), (Lines{"wait 3", "mark 2", "wait 2 beside", "mark 3 beside"}));
  links_->flush(exec_);
  EXPECT_EQ(seen(), (Lines{"mark 1 beside", "wait 1"}));
  EXPECT_EQ(messages(), (Lines{"send 0", "send 1", "recv 1", "send 2"}));
}

TEST_F(NcclMessages, ABufferIsTakenBeforeTheNextMessageArrivesInIt) {
  follow({.ticks = {{arrives(0, 0)}, {arrives(1, 0)}}, .due = {0, 1, 2}, .arrivals = 1});
  recv(0);
  static_cast<void>(seen());
  recv(1);
  EXPECT_EQ(seen(), (Lines{"wait 7 beside", "mark 6 beside", "wait 6", "mark 7"}));
  links_->flush(exec_);
  static_cast<void>(seen());
  links_->reach(exec_, 1);  // behind the flush nothing of before is left to wait for
  EXPECT_EQ(seen(), (Lines{"mark 0", "wait 0 beside", "mark 6 beside"}));
  EXPECT_TRUE(test::throws_with<Error>([&] { links_->reach(exec_, 2); }, "where another one lies"));
}

TEST_F(NcclMessages, AreGivenToTheDeviceWhenTheyAreDue) {
  follow({.ticks = {{arrives(0, 0)}, {sent(0), arrives(1, 1)}, {arrives(2, 2)}},
          .due = {1, 3},
          .arrivals = 3});
  links_->reach(exec_, 0);
  EXPECT_EQ(messages(), (Lines{"recv 0"}));
  send(0);
  EXPECT_EQ(messages(), (Lines{"recv 0", "send 1", "recv 1"}));
  links_->reach(exec_, 1);
  EXPECT_EQ(messages().back(), "recv 2");
  EXPECT_EQ(recorded_.journal->traffic(Operation::recv).bytes, 3 * kBytes);
  recv(2);  // in any order
  recv(0);
  recv(1);
  links_->flush(exec_);
}

TEST_F(NcclMessages, WhatIsInNoPlanIsAnError) {
  follow({.ticks = {{sent(0)}, {arrives(0, 0)}}, .due = {2}, .arrivals = 1});
  EXPECT_TRUE(test::throws_with<Error>([&] { links_->reach(exec_, 0); }, "before it is made"));
  send(0);
  EXPECT_THROW(recv(3), Error);
  EXPECT_TRUE(test::throws_with<Error>(
      [&] { links_->send(exec_, data_.view().rows(0, 3), 1, micro_batch(0)); }, "message_bytes"));
}

TEST_F(NcclMessages, NoneIsLeftOut) {
  follow({.ticks = {{sent(0)}, {arrives(0, 0)}}, .due = {}, .arrivals = 1});
  send(0);
  EXPECT_TRUE(test::throws_with<Error>([&] { links_->flush(exec_); }, "left out"));
}

}  // namespace
}  // namespace shoal::comm
