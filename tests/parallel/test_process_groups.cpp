#include "shoal/parallel/process_groups.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
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

TEST(ProcessGroups, OnPaperAreThoseOfTheRun) {
  const Communicator world = Communicator::world();
  const int pp = world.size() % 2 == 0 ? 2 : 1, rest = world.size() / pp;
  const ParallelConfig config{.tp = rest, .pp = pp, .ep = rest};
  const ProcessGroups real{world, config};
  const ProcessGroups paper = ProcessGroups::on_paper(config, world.size(), world.rank());
  const auto same = [](const Communicator& a, const Communicator& b) {
    return a.rank() == b.rank() && a.size() == b.size() && b.is_on_paper();
  };
  EXPECT_TRUE(same(real.world(), paper.world()));
  EXPECT_TRUE(same(real.dp(), paper.dp()));
  EXPECT_TRUE(same(real.tp(), paper.tp()));
  EXPECT_TRUE(same(real.pp(), paper.pp()));
  EXPECT_TRUE(same(real.ep(), paper.ep()));
  EXPECT_TRUE(same(real.edp(), paper.edp()));
  EXPECT_TRUE(same(real.stage(), paper.stage()));
  EXPECT_TRUE(same(real.tied(), paper.tied()));
  EXPECT_THROW(paper.world().barrier(), Error);
}

}  // namespace
}  // namespace shoal::parallel
