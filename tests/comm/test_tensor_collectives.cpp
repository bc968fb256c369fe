#include "shoal/comm/tensor_collectives.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "shoal/base/philox.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::comm {
namespace {

/// Which memory, and through which path.
struct Path {
  std::string name;
  DeviceKind device;
  bool always_stage;
};

/// One body for host memory, host memory through the staging buffer, and a GPU's.
class OnPath : public ::testing::TestWithParam<Path> {
 protected:
  void SetUp() override {
    if (GetParam().device == DeviceKind::cuda && cuda_device_count() == 0) {
      GTEST_SKIP() << "no GPU on this machine";
    }
    exec_.emplace(GetParam().device, ArenaPlan{});
    // A buffer far smaller than the tensors, so that every operation takes several pieces.
    collectives_ =
        make_host_collectives(world_, GetParam().device,
                              {.staging_bytes = 4096, .always_stage = GetParam().always_stage});
  }

  [[nodiscard]] Tensor tensor(DType dtype, std::int64_t count, std::uint64_t seed) const {
    std::vector<float> values;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto b = philox::block(seed, philox::Purpose::test, static_cast<std::uint64_t>(i));
      values.push_back(static_cast<float>(b.x0 % 64));  // sums stay exact in every dtype
    }
    Tensor made{GetParam().device, {count}, dtype};
    upload_values(*exec_, made, std::span<const float>{values});
    return made;
  }
  [[nodiscard]] std::vector<float> values(const Tensor& t) const {
    return download_floats(*exec_, t);
  }
  [[nodiscard]] std::vector<float> sum_over_ranks(DType dtype, std::int64_t count) const {
    std::vector<float> sum(static_cast<std::size_t>(count));
    for (int r = 0; r < world_.size(); ++r) {
      const auto part = values(tensor(dtype, count, static_cast<std::uint64_t>(r)));
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
    }
    return sum;
  }
  [[nodiscard]] std::uint64_t mine() const { return static_cast<std::uint64_t>(world_.rank()); }

  Communicator world_ = Communicator::world();
  std::optional<Exec> exec_;
  std::unique_ptr<TensorCollectives> collectives_;
};

TEST_P(OnPath, AllReduceSumsEveryDtype) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const std::int64_t count : {0, 1, 1023, 5003}) {
      const Tensor data = tensor(dtype, count, mine());
      collectives_->all_reduce(*exec_, data, ReduceOp::sum);
      EXPECT_EQ(values(data), sum_over_ranks(dtype, count)) << name(dtype) << " " << count;
    }
  }
}

TEST_P(OnPath, ReduceScatterGivesTheOwnBlock) {
  const std::int64_t block = 1501;
  const Tensor send = tensor(DType::f32, block * world_.size(), mine());
  const Tensor recv{GetParam().device, {block}, DType::f32};
  collectives_->reduce_scatter(*exec_, {.send = send, .recv = recv});
  const auto sum = sum_over_ranks(DType::f32, block * world_.size());
  const auto first = sum.begin() + world_.rank() * block;
  EXPECT_EQ(values(recv), std::vector<float>(first, first + block));
}

TEST_P(OnPath, AllGatherJoinsInRankOrder) {
  const std::int64_t block = 1301;
  const Tensor send = tensor(DType::bf16, block, mine());
  const Tensor recv{GetParam().device, {block * world_.size()}, DType::bf16};
  collectives_->all_gather(*exec_, {.send = send, .recv = recv});
  std::vector<float> expected;
  for (int r = 0; r < world_.size(); ++r) {
    const auto part = values(tensor(DType::bf16, block, static_cast<std::uint64_t>(r)));
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_EQ(values(recv), expected);
}

TEST_P(OnPath, BroadcastCopiesTheRoot) {
  const int root = world_.size() - 1;
  const Tensor data = tensor(DType::f32, 3001, mine());
  collectives_->broadcast(*exec_, data, root);
  EXPECT_EQ(values(data), values(tensor(DType::f32, 3001, static_cast<std::uint64_t>(root))));
}

/// Rows that rank `from` sends to rank `to`: some blocks are empty, one is far larger.
std::int64_t rows_between(int from, int to) {
  return from == 0 && to == 1 ? 301 : (from * 5 + to * 3) % 4 * 2;
}
struct RowCounts {
  std::vector<std::int64_t> send, recv;
  std::int64_t sent = 0, received = 0;
  RowCounts(int rank, int size) {
    for (int r = 0; r < size; ++r) {
      send.push_back(rows_between(rank, r));
      recv.push_back(rows_between(r, rank));
      sent += send.back();
      received += recv.back();
    }
  }
};
/// The block from one rank to another as every rank can compute it.
float row_value(int from, int to, std::int64_t i) {
  return static_cast<float>(from * 32 + to * 8 + i % 8);
}

TEST_P(OnPath, AllToAllRowsDeliversBlocksOfAnySize) {
  const std::int64_t width = 3;
  const int me = world_.rank();
  const RowCounts rows{me, world_.size()};
  std::vector<float> outgoing, expected;
  for (int r = 0; r < world_.size(); ++r) {
    for (std::int64_t i = 0; i < rows_between(me, r) * width; ++i) {
      outgoing.push_back(row_value(me, r, i));
    }
    for (std::int64_t i = 0; i < rows_between(r, me) * width; ++i) {
      expected.push_back(row_value(r, me, i));
    }
  }
  for (const std::int64_t largest : {-1, 301}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Tensor send{GetParam().device, {rows.sent, width}, dtype};
      const Tensor recv{GetParam().device, {rows.received, width}, dtype};
      upload_values(*exec_, send, std::span<const float>{outgoing});
      const auto before = world_.journal()->traffic(Operation::all_to_all_v).bytes;
      int overlapped = 0;
      collectives_->all_to_all_rows(*exec_, {.send = send,
                                             .send_rows = rows.send,
                                             .recv = recv,
                                             .recv_rows = rows.recv,
                                             .largest_block = largest,
                                             .overlap = [&] { ++overlapped; }});
      EXPECT_EQ(values(recv), expected);
      EXPECT_EQ(overlapped, 1);
      if (world_.size() == 1) continue;
      EXPECT_EQ(world_.journal()->traffic(Operation::all_to_all_v).bytes - before,
                (rows.sent - rows_between(me, me)) * width * size_of(dtype));
    }
  }
}

TEST_P(OnPath, AllToAllRowsOfNothingStillRunsTheOverlap) {
  const std::vector<std::int64_t> none(static_cast<std::size_t>(world_.size()));
  const Tensor empty{GetParam().device, {0, 4}, DType::f32};
  int overlapped = 0;
  collectives_->all_to_all_rows(
      *exec_, {.send = empty, .send_rows = none, .recv = empty, .recv_rows = none, .overlap = [&] {
                 ++overlapped;
               }});
  EXPECT_EQ(overlapped, 1);
}

TEST_P(OnPath, AllToAllRowsChecksItsCounts) {
  const std::vector<std::int64_t> one(static_cast<std::size_t>(world_.size()), 1);
  const std::vector<std::int64_t> short_of_one(static_cast<std::size_t>(world_.size() - 1), 1);
  const Tensor rows{GetParam().device, {world_.size(), 4}, DType::f32};
  const Tensor more{GetParam().device, {world_.size() + 1, 4}, DType::f32};
  const Tensor wider{GetParam().device, {world_.size(), 5}, DType::f32};
  const auto call = [&](const Tensor& send, std::span<const std::int64_t> counts,
                        const Tensor& recv) {
    collectives_->all_to_all_rows(
        *exec_, {.send = send, .send_rows = counts, .recv = recv, .recv_rows = one});
  };
  EXPECT_THROW(call(more, one, rows), Error);
  EXPECT_THROW(call(rows, one, more), Error);
  EXPECT_THROW(call(rows, short_of_one, rows), Error);
  EXPECT_THROW(call(rows, one, wider), Error);
}

TEST_P(OnPath, WaitsForADeviceAreCounted) {
  const Tensor data = tensor(DType::f32, 2048, mine());
  collectives_->all_reduce(*exec_, data, ReduceOp::sum);
  const auto waits = world_.journal()->waits().totals();
  const bool staged = GetParam().always_stage || GetParam().device == DeviceKind::cuda;
  if (staged && world_.size() > 1) {
    EXPECT_EQ(waits.at("all_reduce staging").count, 2);  // two pieces of 4096 bytes
  } else {
    EXPECT_TRUE(waits.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, OnPath,
                         ::testing::Values(Path{"host", DeviceKind::cpu, false},
                                           Path{"staged", DeviceKind::cpu, true},
                                           Path{"cuda", DeviceKind::cuda, true}),
                         [](const auto& info) { return info.param.name; });

TEST(TensorCollectives, ADryExecChecksTheContractOnly) {
  const auto world = Communicator::world();
  const auto collectives = make_host_collectives(world, DeviceKind::cpu);
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const TensorView block = persistent(dry, {8}, DType::f32, MemoryKind::gradients);
  const TensorView wrong = persistent(dry, {8 * world.size() + 1}, DType::f32, MemoryKind::batch);
  collectives->all_reduce(dry, block, ReduceOp::sum);
  EXPECT_THROW(collectives->all_gather(dry, {.send = block, .recv = wrong}), Error);
  EXPECT_THROW(collectives->reduce_scatter(dry, {.send = wrong, .recv = block}), Error);
  EXPECT_TRUE(world.journal()->entries().empty());
}

TEST(TensorCollectives, OnlyAGroupOfOneLeavesTheHostOut) {
  const auto self = Communicator::self(), world = Communicator::world();
  const auto alone = make_host_collectives(self, DeviceKind::cpu, {.always_stage = true});
  const auto all = make_host_collectives(world, DeviceKind::cpu, {.always_stage = true});
  EXPECT_TRUE(alone->capturable()) << "it only copies";
  EXPECT_EQ(all->capturable(), world.size() == 1);
}

}  // namespace
}  // namespace shoal::comm
