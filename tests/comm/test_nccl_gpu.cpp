#include <gtest/gtest.h>

#include <optional>

#include "shoal/base/clock.hpp"
#include "shoal/comm/collectives_factory.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::comm {
namespace {

/// The NCCL library itself. With one rank every group has one member and is forced through it; with
/// several each rank needs a GPU of its own.
class NcclGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kHasNccl) GTEST_SKIP() << "this build has no NCCL";
    if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU on this machine";
    if (cuda_device_count() < world_.size()) GTEST_SKIP() << "NCCL needs one GPU a rank";
    select_cuda_device(world_.rank());
    exec_.emplace(DeviceKind::cuda, ArenaPlan{});
    factory_.emplace(
        world_, DeviceKind::cuda,
        CollectivesOptions{
            .choice = TransportChoice::nccl, .force_groups_of_one = true, .timeout_s = 60.0});
  }
  [[nodiscard]] Tensor filled(DType dtype, std::int64_t count, float value) const {
    Tensor made{DeviceKind::cuda, {count}, dtype};
    upload_values(
        *exec_, made,
        std::span<const float>{std::vector<float>(static_cast<std::size_t>(count), value)});
    return made;
  }
  [[nodiscard]] std::vector<float> values(const Tensor& t) const {
    return download_floats(*exec_, t);
  }
  [[nodiscard]] float mine() const { return static_cast<float>(world_.rank() + 1); }
  /// 1 + 2 + ... over all ranks.
  [[nodiscard]] float sum() const {
    return static_cast<float>(world_.size() * (world_.size() + 1) / 2);
  }

  Communicator world_ = Communicator::world();
  std::optional<Exec> exec_;
  std::optional<CollectivesFactory> factory_;
};

TEST_F(NcclGpu, StartsAndSaysHow) {
  EXPECT_EQ(factory_->kind(), TransportKind::nccl);
  EXPECT_EQ(factory_->describe().find("NCCL 2."), 0U) << factory_->describe();
  EXPECT_NE(factory_->describe().find("algorithm "), std::string::npos);
}

TEST_F(NcclGpu, EveryCollectiveRuns) {
  const auto all = factory_->make(world_);
  EXPECT_TRUE(all->capturable());
  const auto n = static_cast<std::size_t>(world_.size());
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor x = filled(dtype, 1001, mine());
    all->all_reduce(*exec_, x, ReduceOp::sum);
    EXPECT_EQ(values(x), std::vector<float>(1001, sum()));
    const Tensor many = filled(dtype, 1001 * world_.size(), mine());
    all->reduce_scatter(*exec_, {.send = many, .recv = x, .op = ReduceOp::max});
    EXPECT_EQ(values(x), std::vector<float>(1001, static_cast<float>(world_.size())));
    const Tensor part = filled(dtype, 7, mine());
    const Tensor joined = filled(dtype, 7 * world_.size(), -1.0F);
    all->all_gather(*exec_, {.send = part, .recv = joined});
    EXPECT_EQ(values(joined)[7 * (n - 1)], static_cast<float>(world_.size()));
    all->broadcast(*exec_, part, world_.size() - 1);
    EXPECT_EQ(values(part), std::vector<float>(7, static_cast<float>(world_.size())));
  }
}

/// Every rank sends r + 1 rows of its own number to rank r.
TEST_F(NcclGpu, RowsAreExchangedBesideOtherWork) {
  const auto all = factory_->make(world_);
  std::vector<std::int64_t> send_rows, recv_rows;
  for (int r = 0; r < world_.size(); ++r) {
    send_rows.push_back(r + 1);
    recv_rows.push_back(world_.rank() + 1);
  }
  const auto sent = static_cast<std::int64_t>(sum());
  const std::int64_t received = world_.size() * (world_.rank() + 1);
  const Tensor send = filled(DType::f32, sent * 5, mine());
  const Tensor recv = filled(DType::f32, received * 5, -1.0F);
  const Tensor other = filled(DType::f32, 100, -1.0F);
  all->all_to_all_rows(*exec_, {.send = send.view().reshape({sent, 5}),
                                .send_rows = send_rows,
                                .recv = recv.view().reshape({received, 5}),
                                .recv_rows = recv_rows,
                                .overlap = [&] { zero(*exec_, other); }});
  const auto got = values(recv);
  for (std::int64_t i = 0; i < received * 5; ++i) {
    EXPECT_EQ(got[static_cast<std::size_t>(i)],
              static_cast<float>(i / (5 * (world_.rank() + 1)) + 1));
  }
  EXPECT_EQ(values(other), std::vector<float>(100, 0.0F));
}

TEST_F(NcclGpu, GroupsAreSplitFromTheWorld) {
  const auto halves = world_.split({.color = world_.rank() % 2, .name = "halves"});
  const auto self = world_.split({.color = world_.rank(), .name = "self"});
  const auto in_half = factory_->make(halves), alone = factory_->make(self);
  EXPECT_EQ(in_half->size(), halves.size());
  EXPECT_EQ(in_half->rank(), halves.rank());
  EXPECT_FALSE(alone->only_copies());
  const Tensor x = filled(DType::f32, 33, 2.0F);
  alone->all_reduce(*exec_, x, ReduceOp::sum);
  EXPECT_EQ(values(x), std::vector<float>(33, 2.0F));
  in_half->all_reduce(*exec_, x, ReduceOp::sum);
  EXPECT_EQ(values(x), std::vector<float>(33, 2.0F * static_cast<float>(halves.size())));
}

TEST_F(NcclGpu, TheSameSumTwiceGivesTheSameBits) {
  const auto all = factory_->make(world_);
  std::vector<float> first;
  for (int run = 0; run < 2; ++run) {
    const Tensor x = filled(DType::f32, 100003, 1.0F / (mine() + 2.0F));
    all->all_reduce(*exec_, x, ReduceOp::sum);
    if (run == 1) {
      EXPECT_EQ(values(x), first);
    }
    first = values(x);
  }
}

TEST_F(NcclGpu, TheJournalSeesOperationsEnd) {
  const auto all = factory_->make(world_);
  const Tensor x = filled(DType::f32, 1000, 1.0F);
  for (int i = 0; i < 600; ++i) all->all_reduce(*exec_, x, ReduceOp::max);  // more than marks
  exec_->synchronize();
  const Stopwatch clock;
  while (world_.journal()->in_flight() && clock.seconds() < 10.0) {
  }
  EXPECT_FALSE(world_.journal()->in_flight());
  EXPECT_EQ(world_.journal()->traffic(Operation::all_reduce).calls, 600);
}

/// Around the ring, more messages than buffers, twice.
TEST_F(NcclGpu, MessagesOfAPlanArriveInTheirTurn) {
  if (world_.size() == 1) GTEST_SKIP() << "needs two ranks";
  constexpr int kMessages = 5;
  const int next = (world_.rank() + 1) % world_.size();
  const int previous = (world_.rank() + world_.size() - 1) % world_.size();
  const auto tag = [](int i) { return MessageTag{Direction::activation, 0, i}; };
  PointToPointOptions options{.host = {.message_bytes = 4000}, .plan = {.arrivals = 2}};
  for (int i = 0; i < kMessages; ++i) {
    options.plan.ticks.push_back({{.sends = true, .peer = next, .tag = tag(i)},
                                  {.peer = previous, .tag = tag(i), .buffer = i % 2}});
  }
  const Exec exec{DeviceKind::cuda, ArenaPlan{.persistent = 1 << 16}};
  const auto links = factory_->make_point_to_point(exec, world_, options);
  EXPECT_TRUE(links->capturable());
  const Tensor got = filled(DType::f32, 1000, -1.0F);
  for (int i = 0; i < 2 * kMessages; ++i) {
    const auto value = [i](int rank) { return static_cast<float>(100 * rank + i); };
    links->send(exec, filled(DType::f32, 1000, value(world_.rank())), next, tag(i % kMessages));
    links->recv(exec, got, previous, tag(i % kMessages));
    if (i % kMessages == kMessages - 1) links->flush(exec);
    EXPECT_EQ(download_floats(exec, got), std::vector<float>(1000, value(previous)));
  }
  EXPECT_EQ(world_.journal()->traffic(Operation::send).bytes, 2 * kMessages * 4000);
}

TEST_F(NcclGpu, AnAbortEndsTheSession) {
  const auto all = factory_->make(world_);
  const Tensor x = filled(DType::f32, 10, 1.0F);
  all->all_reduce(*exec_, x, ReduceOp::sum);
  exec_->synchronize();
  factory_->abort();
  EXPECT_THROW(all->all_reduce(*exec_, x, ReduceOp::sum), Error);
}

}  // namespace
}  // namespace shoal::comm
