#include "shoal/base/rank_grid.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"

namespace shoal {
namespace {

TEST(RankGrid, InnermostAxisHoldsNeighbours) {
  const RankGrid grid{{{"pp", 2}, {"dp", 2}, {"cp", 1}, {"tp", 2}}};
  EXPECT_EQ(grid.size(), 8);
  EXPECT_EQ(grid.coord(5, "tp"), 1);
  EXPECT_EQ(grid.coord(5, "dp"), 0);
  EXPECT_EQ(grid.coord(5, "pp"), 1);
  EXPECT_EQ(grid.color(4, "tp"), grid.color(5, "tp"));
  EXPECT_NE(grid.color(3, "tp"), grid.color(4, "tp"));
}

TEST(RankGrid, ColorJoinsExactlyThePeersAlongAnAxis) {
  const RankGrid grid{{{"pp", 2}, {"dp", 3}, {"tp", 2}}};
  for (int a = 0; a < grid.size(); ++a) {
    for (int b = 0; b < grid.size(); ++b) {
      const bool peers =
          grid.coord(a, "pp") == grid.coord(b, "pp") && grid.coord(a, "tp") == grid.coord(b, "tp");
      EXPECT_EQ(grid.color(a, "dp") == grid.color(b, "dp"), peers) << a << " " << b;
    }
  }
}

TEST(RankGrid, RefusesAnEmptyAxis) {
  EXPECT_THROW(RankGrid({{"dp", 0}}), InputError);
}

}  // namespace
}  // namespace shoal
