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

}  // namespace
}  // namespace shoal::comm
