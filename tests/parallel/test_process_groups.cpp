#include "shoal/parallel/process_groups.hpp"

#include <gtest/gtest.h>

#include "shoal/nn/parameter.hpp"

namespace shoal::parallel {
namespace {

/// World ranks of a group, in its order.
std::vector<int> members(const Communicator& group, int world_rank) {
  return group.all_gather_value(world_rank);
}

TEST(ProcessGroups, FoldExpertsOverDataAndTensorRanks) {
  const Communicator world = Communicator::world();
  if (world.size() != 4) return;  // the groups of a world of four
  const ProcessGroups groups{world, {.tp = 2, .ep = 4}};
  const int me = world.rank();
  EXPECT_EQ(members(groups.tp(), me), (std::vector{me / 2 * 2, me / 2 * 2 + 1}));
  EXPECT_EQ(members(groups.dp(), me), (std::vector{me % 2, me % 2 + 2}));
  EXPECT_EQ(members(groups.ep(), me), (std::vector{0, 1, 2, 3}));
  EXPECT_EQ(groups.edp().size(), 1);
  EXPECT_EQ(groups.stage().size(), 4);
  EXPECT_EQ(&groups.replicas(nn::kDp | nn::kCp | nn::kTp), &groups.stage());
  EXPECT_EQ(&groups.replicas(nn::kEdp | nn::kCp), &groups.edp());
}

TEST(ProcessGroups, TiedEndsMeet) {
  const Communicator world = Communicator::world();
  const ProcessGroups groups{world, {.pp = world.size()}};
  const int last = world.size() - 1;
  const bool end = world.rank() == 0 || world.rank() == last;
  const std::vector<int> expected =
      !end ? std::vector{world.rank()} : (last == 0 ? std::vector{0} : std::vector{0, last});
  EXPECT_EQ(members(groups.tied(), world.rank()), expected);
  EXPECT_EQ(groups.pp().rank(), world.rank());
}

}  // namespace
}  // namespace shoal::parallel
