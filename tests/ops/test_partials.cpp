#include "ops/partials.hpp"

#include <gtest/gtest.h>

namespace shoal::ops {
namespace {

TEST(Partials, PartsCoverAllRowsAndAreBounded) {
  for (const std::int64_t rows : {0, 1, 63, 64, 65, 1000, 16384, 16385, 1000003}) {
    EXPECT_GE(part_count(rows) * part_size(rows), rows);
    EXPECT_LE(part_count(rows), kMaxParts);
    EXPECT_EQ(part_count(rows) == 0, rows == 0);
  }
}

}  // namespace
}  // namespace shoal::ops
