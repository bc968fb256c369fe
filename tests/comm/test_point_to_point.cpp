#include "shoal/comm/point_to_point.hpp"

#include <gtest/gtest.h>

#include <set>

#include "shoal/base/error.hpp"
#include "shoal/tensor/tensor.hpp"
#include "support/throws.hpp"

namespace shoal::comm {
namespace {

class PointToPointOn : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::cuda && cuda_device_count() == 0) {
      GTEST_SKIP() << "no GPU on this machine";
    }
    if (world_.size() == 1) GTEST_SKIP() << "needs two ranks";
  }
  [[nodiscard]] Tensor filled(const Exec& exec, std::int64_t count, float value) const {
    Tensor t{GetParam(), {count}, DType::f32};
    upload_values(exec, t, std::vector<float>(static_cast<std::size_t>(count), value));
    return t;
  }
  [[nodiscard]] int next() const { return (world_.rank() + 1) % world_.size(); }
  [[nodiscard]] int previous() const { return (world_.rank() + world_.size() - 1) % world_.size(); }

  Communicator world_ = Communicator::world();
};

/// Every rank sends before it receives: blocking sends of this size would wait for each other.
TEST_P(PointToPointOn, ARingOfLargeMessagesDoesNotDeadlock) {
  const Exec exec{GetParam(), ArenaPlan{}};
  const std::int64_t count = std::int64_t{1} << 20;
  const auto links = make_host_point_to_point(
      world_, GetParam(),
      {.message_bytes = count * 4, .depth = 2, .channels = {{next(), Direction::activation}}});
  for (int i = 0; i < 6; ++i) {
    const Tensor mine = filled(exec, count, static_cast<float>(100 * world_.rank() + i));
    const Tensor theirs = filled(exec, count, -1.0F);
    links->send(exec, mine, next(), {.micro_batch = i});
    upload_values(exec, mine, std::vector<float>(static_cast<std::size_t>(count), -2.0F));
    links->recv(exec, theirs, previous(), {.micro_batch = i});
    const std::vector<float> got = download_floats(exec, theirs);
    EXPECT_EQ(std::set<float>(got.begin(), got.end()),
              std::set<float>{static_cast<float>(100 * previous() + i)});
  }
  links->flush(exec);
  EXPECT_EQ(world_.journal()->traffic(Operation::send).bytes, 6 * count * 4);
  EXPECT_EQ(world_.journal()->traffic(Operation::recv).bytes, 6 * count * 4);
}

/// Messages are found by what they are about, not by when they were sent.
TEST_P(PointToPointOn, TagsTellMessagesApart) {
  const Exec exec{GetParam(), ArenaPlan{}};
  const auto links = make_host_point_to_point(
      world_, GetParam(),
      {.message_bytes = 64,
       .depth = 4,
       .channels = {{next(), Direction::activation}, {next(), Direction::gradient}}});
  const MessageTag tags[] = {{Direction::activation, 0, 0},
                             {Direction::gradient, 0, 0},
                             {Direction::activation, 1, 0},
                             {Direction::activation, 0, 1}};
  for (int i = 0; i < 4; ++i) {
    links->send(exec, filled(exec, 3 + i, static_cast<float>(i)), next(), tags[i]);
  }
  for (int i = 3; i >= 0; --i) {
    const Tensor got = filled(exec, 3 + i, -1.0F);
    links->recv(exec, got, previous(), tags[i]);
    EXPECT_EQ(download_floats(exec, got),
              std::vector<float>(static_cast<std::size_t>(3 + i), static_cast<float>(i)));
  }
}

TEST_P(PointToPointOn, ASenderWaitsAtAFullChannel) {
  if (world_.rank() > 1) return;
  const Exec exec{GetParam(), ArenaPlan{}};
  const int other = 1 - world_.rank();
  const std::int64_t count = std::int64_t{1}
                             << 20;  // larger than what MPI takes without a receiver
  const auto links = make_host_point_to_point(
      world_, GetParam(),
      {.message_bytes = count * 4, .depth = 1, .channels = {{other, Direction::gradient}}});
  const Tensor data = filled(exec, count, 1.0F);
  for (int i = 0; i < 3; ++i) {
    const MessageTag tag{Direction::gradient, 0, i};
    world_.rank() == 0 ? links->send(exec, data, other, tag) : links->recv(exec, data, other, tag);
  }
  links->flush(exec);
  EXPECT_GT(links->seconds_waiting(), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Devices, PointToPointOn,
                         ::testing::Values(DeviceKind::cpu, DeviceKind::cuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::cpu ? "cpu" : "cuda";
                         });

TEST(PointToPoint, InAGroupOfOneIsAnError) {
  const Communicator self = Communicator::self();
  const Exec exec{DeviceKind::cpu, ArenaPlan{}};
  const auto links = make_host_point_to_point(self, DeviceKind::cpu, {});
  const Tensor data{DeviceKind::cpu, {1}, DType::f32};
  EXPECT_TRUE(test::throws_with<Error>([&] { links->send(exec, data, 0, {}); }, "group of one"));
  EXPECT_TRUE(test::throws_with<Error>([&] { links->recv(exec, data, 0, {}); }, "group of one"));
}

TEST(PointToPoint, OnADryExecChecksOnly) {
  const Communicator paper = Communicator::on_paper(0, 4);
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const auto links = make_host_point_to_point(paper, DeviceKind::cpu, {});
  const TensorView data = persistent(dry, {8}, DType::f32, MemoryKind::batch);
  links->send(dry, data, 1, {});
  links->recv(dry, data, 3, {});
  EXPECT_THROW(links->send(dry, data, 0, {}), Error);
  EXPECT_THROW(links->send(dry, data, 4, {}), Error);
  EXPECT_THROW(links->send(dry, data, 1, {.chunk = 64}), Error);
}

TEST(MessageTag, NumbersAreDistinctAndSmall) {
  std::set<int> seen;
  for (const Direction direction : {Direction::activation, Direction::gradient}) {
    for (int chunk = 0; chunk < 64; ++chunk) {
      for (int i = 0; i < 255; ++i) seen.insert(number_of({direction, chunk, i}));
    }
  }
  EXPECT_EQ(seen.size(), 2U * 64U * 255U);
  EXPECT_GE(*seen.begin(), 2);
  EXPECT_LE(*seen.rbegin(), 32767);
}

}  // namespace
}  // namespace shoal::comm
