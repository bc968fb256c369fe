#include <gtest/gtest.h>

#include <map>

#include "train/parameter_io.hpp"

namespace shoal::train {
namespace {

TEST(ParameterIo, SegmentsOfFusedStorageCoverEachElementOnce) {
  const nn::StorageMap map{.offset = 100, .parts = 3, .stride = 20, .inner = 8};
  std::map<std::int64_t, std::int64_t> where;  // local -> offset
  for (const Segment& s : segments(map, 5, 14)) {
    for (std::int64_t i = 0; i < s.count; ++i) where[s.local + i] = s.offset + i;
  }
  ASSERT_EQ(where.size(), 14U);
  for (const auto& [local, offset] : where) {
    EXPECT_EQ(offset, 100 + local / 8 * 20 + local % 8);
  }
}

TEST(ParameterIo, PlainStorageIsOneSegment) {
  const nn::StorageMap map{.offset = 7, .parts = 4, .stride = 6, .inner = 6};
  EXPECT_EQ(segments(map, 0, 24).size(), 1U);
}

/// Every local element of a slice dealt round-robin meets its own global element.
TEST(ParameterIo, BoxesOfADealtSliceMapLocalToGlobal) {
  const nn::Slice slice = {{.start = 2, .stride = 4, .count = 3, .block = 2},
                           {.start = 0, .stride = 5, .count = 1, .block = 5},
                           {.start = 1, .stride = 2, .count = 2, .block = 1}};
  const Shape local = nn::local_shape(slice);
  ASSERT_EQ(local, (Shape{6, 5, 2}));
  std::map<std::int64_t, int> seen;
  for (const BoxPair& box : boxes(slice, 10)) {
    EXPECT_EQ(box.local.count, box.global.count);
    for_each_run(local, box.local, [&](const BoxRun& run) {
      for (std::int64_t i = 0; i < run.count; ++i) {
        ++seen[run.local + i];
        // Position inside the box, then in the local and the global tensor.
        std::int64_t rest = run.in_box + i;
        std::int64_t at[3];
        for (int d = 2; d >= 0; --d) {
          at[d] = rest % box.local.count[static_cast<std::size_t>(d)];
          rest /= box.local.count[static_cast<std::size_t>(d)];
        }
        const std::int64_t l0 = box.local.start[0] + at[0];
        const std::int64_t g0 = box.global.start[0] + at[0];
        EXPECT_EQ(g0, 2 + l0 / 2 * 4 + l0 % 2);
        const std::int64_t l2 = box.local.start[2] + at[2];
        EXPECT_EQ(box.global.start[2] + at[2], 1 + 2 * l2);
        EXPECT_EQ(run.local + i, (l0 * 5 + box.local.start[1] + at[1]) * 2 + l2);
      }
    });
  }
  EXPECT_EQ(static_cast<std::int64_t>(seen.size()), local.elements());
  for (const auto& [element, times] : seen) EXPECT_EQ(times, 1) << element;
}

}  // namespace
}  // namespace shoal::train
