#include "shoal/parallel/comm_shard_group.hpp"

#include <gtest/gtest.h>

#include "support/tensors.hpp"

namespace shoal::parallel {
namespace {

using test::from_values;
using test::normal;
using test::poisoned;

/// Row i of the whole belongs to rank i / rows; every rank draws its own values.
class CommShardGroupTest : public ::testing::TestWithParam<DType> {
 protected:
  static constexpr std::int64_t kRows = 3, kColumns = 5;

  [[nodiscard]] Tensor whole_of(int rank) const {
    return normal(exec_, {kRows * world_.size(), kColumns}, GetParam(),
                  static_cast<std::uint64_t>(100 + rank));
  }
  /// Sum over ranks in rank order in fp32, rounded once.
  [[nodiscard]] std::vector<float> sum_of_wholes() const {
    std::vector<float> sum(static_cast<std::size_t>(kRows * world_.size() * kColumns));
    for (int r = 0; r < world_.size(); ++r) {
      const auto values = download_floats(exec_, whole_of(r));
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    const Tensor rounded =
        from_values(exec_, {static_cast<std::int64_t>(sum.size())}, GetParam(), sum);
    return download_floats(exec_, rounded);
  }

  const Communicator world_ = Communicator::world();
  const Exec exec_ = test::make_exec(DeviceKind::cpu, 1);
  const std::unique_ptr<comm::TensorCollectives> collectives_ =
      comm::make_host_collectives(world_, DeviceKind::cpu);
  CommShardGroup group_{*collectives_};
};

TEST_P(CommShardGroupTest, GatherUndoesTheCut) {
  const Tensor whole = whole_of(0);
  const Tensor got = poisoned(exec_, whole.shape(), GetParam());
  group_.all_gather(exec_, got, whole.view().rows(group_.rank() * kRows, kRows));
  EXPECT_EQ(download_floats(exec_, got), download_floats(exec_, whole));
}

TEST_P(CommShardGroupTest, SumsRunInRankOrderAndRoundOnce) {
  const auto sum = sum_of_wholes();
  const Tensor part = poisoned(exec_, {kRows, kColumns}, GetParam());
  group_.reduce_scatter(exec_, part, whole_of(group_.rank()));
  const auto first = sum.begin() + group_.rank() * kRows * kColumns;
  EXPECT_EQ(download_floats(exec_, part), (std::vector<float>{first, first + kRows * kColumns}));
  const Tensor all = whole_of(group_.rank());
  group_.all_reduce(exec_, all);
  EXPECT_EQ(download_floats(exec_, all), sum);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CommShardGroupTest,
                         ::testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& info) { return std::string{name(info.param)}; });

TEST(CommShardGroup, APlannedGroupChecksShapesAndRefusesToRun) {
  const Communicator paper = Communicator::on_paper(3, 8);
  const auto collectives = comm::make_host_collectives(paper, DeviceKind::cpu);
  CommShardGroup group{*collectives};
  const Exec dry = Exec::dry(DeviceKind::cpu), real = test::make_exec(DeviceKind::cpu, 1);
  const TensorView part = scratch(dry, {2, 4}, DType::f32),
                   whole = scratch(dry, {16, 4}, DType::f32);
  group.all_gather(dry, whole, part);
  group.reduce_scatter(dry, part, whole);
  EXPECT_THROW(group.all_gather(dry, part, whole), Error);
  const Tensor x = poisoned(real, {2}, DType::f32);
  EXPECT_THROW(group.all_reduce(real, x), Error);
}

}  // namespace
}  // namespace shoal::parallel
