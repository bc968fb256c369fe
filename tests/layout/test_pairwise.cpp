#include <gtest/gtest.h>

#include <set>

#include "layout/pairwise.hpp"

namespace shoal::test {
namespace {

TEST(Pairwise, EveryPairOccursInFarFewerRowsThanTheProduct) {
  const std::vector<int> levels = {5, 3, 3, 2, 2, 2};
  const auto rows = pairwise(levels, [](const Row&) { return true; });
  EXPECT_LT(rows.size(), 25U);
  for (std::size_t a = 0; a < levels.size(); ++a) {
    for (std::size_t b = a + 1; b < levels.size(); ++b) {
      std::set<std::pair<int, int>> pairs;
      for (const Row& row : rows) pairs.insert({row[a], row[b]});
      EXPECT_EQ(static_cast<int>(pairs.size()), levels[a] * levels[b]) << a << " " << b;
    }
  }
}

TEST(Pairwise, RowsThatAreNotValidDoNotOccur) {
  const auto valid = [](const Row& row) { return row[0] != 0 || row[1] <= 0; };
  const auto rows = pairwise({2, 3, 2}, valid);
  std::set<std::pair<int, int>> pairs;
  for (const Row& row : rows) {
    EXPECT_TRUE(valid(row));
    pairs.insert({row[0], row[1]});
  }
  EXPECT_EQ(pairs.size(), 4U);
}

}  // namespace
}  // namespace shoal::test
