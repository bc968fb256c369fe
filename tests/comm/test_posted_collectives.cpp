#include <gtest/gtest.h>

#include "shoal/comm/tensor_collectives.hpp"
#include "support/tensors.hpp"

namespace shoal::comm {
namespace {

using test::normal;
using test::poisoned;
using Posted = std::unique_ptr<PostedCollective>;

class PostedCollectives : public ::testing::Test {
 protected:
  [[nodiscard]] Tensor workspace(const Tensor& of) const {
    return {DeviceKind::cpu,
            {Communicator::posted_workspace(of.view().bytes(), world_.size())},
            DType::u8};
  }
  /// In order; every second one by asking until it has ended.
  static void end_all(const std::vector<Posted>& posted) {
    for (std::size_t i = 0; i < posted.size(); ++i) {
      if (posted[i] == nullptr) continue;
      while (i % 2 == 0 && !posted[i]->progress()) {
      }
      posted[i]->wait();
    }
  }

  const Communicator world_ = Communicator::world();
  const Exec exec_ = test::make_exec(DeviceKind::cpu, 8);
  const std::unique_ptr<TensorCollectives> group_ = make_host_collectives(world_, DeviceKind::cpu);
};

TEST_F(PostedCollectives, GiveTheBitsOfThoseThatWait) {
  EXPECT_TRUE(group_->can_post());
  const std::int64_t P = world_.size();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t n : {1, 7, 1000, 70000}) {
      const auto seed = static_cast<std::uint64_t>(100 * n + world_.rank());
      const Tensor send = normal(exec_, {n * P}, dtype, seed);
      const Tensor want_all = normal(exec_, {n * P}, dtype, seed),
                   all = normal(exec_, {n * P}, dtype, seed);
      const Tensor want_part = poisoned(exec_, {n}, dtype), part = poisoned(exec_, {n}, dtype);
      const Tensor want_whole = poisoned(exec_, {n * P}, dtype),
                   whole = poisoned(exec_, {n * P}, dtype);
      group_->reduce_scatter(exec_, {.send = send, .recv = want_part});
      group_->all_reduce(exec_, want_all, ReduceOp::sum);
      group_->all_gather(exec_, {.send = want_part, .recv = want_whole});

      const Tensor first = workspace(send), second = workspace(all);
      std::vector<Posted> posted;
      posted.push_back(group_->post_reduce_scatter(exec_, {.send = send, .recv = part}, first));
      posted.push_back(group_->post_all_reduce(exec_, all, ReduceOp::sum, second));
      posted.push_back(group_->post_all_gather(exec_, {.send = want_part, .recv = whole}));
      for (const Posted& p : posted) EXPECT_EQ(p == nullptr, P == 1);
      end_all(posted);
      EXPECT_TRUE(test::all_equal(download_floats(exec_, part), download_floats(exec_, want_part)));
      EXPECT_TRUE(test::all_equal(download_floats(exec_, all), download_floats(exec_, want_all)));
      EXPECT_TRUE(
          test::all_equal(download_floats(exec_, whole), download_floats(exec_, want_whole)));
    }
  }
  EXPECT_FALSE(world_.journal()->in_flight());
}

/// Some ranks are in the second round of a call while others start the next one.
TEST_F(PostedCollectives, RoundsOfRanksOfDifferentSpeedDoNotMix) {
  constexpr std::size_t kMany = 6;
  std::vector<Tensor> data, room;
  for (std::size_t i = 0; i < kMany; ++i) {
    const auto value = static_cast<float>(i + 1);
    data.push_back(test::from_values(exec_, {9}, DType::f32, std::vector<float>(9, value)));
    room.push_back(workspace(data.back()));
  }
  std::vector<Posted> posted;
  for (std::size_t i = 0; i < kMany; ++i) {
    posted.push_back(group_->post_all_reduce(exec_, data[i], ReduceOp::sum, room[i]));
    if (world_.rank() % 2 == 0 && posted.back() != nullptr) {
      static_cast<void>(posted.front()->progress());
    }
  }
  end_all(posted);
  for (std::size_t i = 0; i < kMany; ++i) {
    const float want = static_cast<float>(i + 1) * static_cast<float>(world_.size());
    EXPECT_EQ(download_floats(exec_, data[i]), std::vector<float>(9, want));
  }
}

TEST_F(PostedCollectives, AreCountedAndNotInFlightWhileTheHostWorks) {
  if (world_.size() == 1) GTEST_SKIP() << "a group of one posts nothing";
  const Tensor send = normal(exec_, {64 * world_.size()}, DType::f32, 1);
  const Tensor recv = poisoned(exec_, {64}, DType::f32), room = workspace(send);
  const auto before = world_.journal()->traffic(Operation::reduce_scatter);
  const Posted posted = group_->post_reduce_scatter(exec_, {.send = send, .recv = recv}, room);
  EXPECT_FALSE(world_.journal()->in_flight());
  posted->wait();
  const auto after = world_.journal()->traffic(Operation::reduce_scatter);
  EXPECT_EQ(after.calls - before.calls, 1);
  EXPECT_EQ(after.bytes - before.bytes, send.view().bytes());
  EXPECT_THROW(static_cast<void>(group_->post_reduce_scatter(exec_, {.send = send, .recv = recv},
                                                             room.view().rows(0, 8))),
               Error);
}

}  // namespace
}  // namespace shoal::comm
