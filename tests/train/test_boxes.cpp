#include <gtest/gtest.h>

#include <map>

#include "shoal/nn/parameter_runs.hpp"
#include "train/boxes.hpp"

namespace shoal::train {
namespace {

/// Every local element of a slice dealt round-robin meets its own global element.
TEST(Boxes, BoxesOfADealtSliceMapLocalToGlobal) {
  const nn::Slice slice = {{.start = 2, .stride = 4, .count = 3, .block = 2},
                           {.start = 0, .stride = 5, .count = 1, .block = 5},
                           {.start = 1, .stride = 2, .count = 2, .block = 1}};
  const Shape local = nn::local_shape(slice);
  ASSERT_EQ(local, (Shape{6, 5, 2}));
  std::map<std::int64_t, int> seen;
  for (const BoxPair& box : boxes(slice, all_rows(local), 10)) {
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

/// Rows of slices of one, two and three dimensions, whole, contiguous and dealt.
struct Rows {
  nn::Slice slice;
  Shape global;
  parallel::RowRange rows;
};
const std::vector<Rows> kRows = {
    {{{.start = 3, .stride = 7, .count = 1, .block = 7}}, {11}, {2, 4}},
    {{{.start = 2, .stride = 4, .count = 3, .block = 2},
      {.start = 0, .stride = 5, .count = 1, .block = 5}},
     {14, 5},
     {1, 4}},
    {{{.start = 0, .stride = 4, .count = 1, .block = 4},
      {.start = 1, .stride = 3, .count = 3, .block = 2}},
     {4, 10},
     {1, 2}},
    {{{.start = 1, .stride = 3, .count = 1, .block = 3},
      {.start = 0, .stride = 4, .count = 1, .block = 4},
      {.start = 0, .stride = 2, .count = 1, .block = 2}},
     {5, 4, 2},
     {2, 9}},
    {{{.start = 0, .stride = 3, .count = 1, .block = 3},
      {.start = 1, .stride = 3, .count = 2, .block = 1},
      {.start = 0, .stride = 2, .count = 1, .block = 2}},
     {3, 6, 2},
     {1, 4}},
    {{{.start = 0, .stride = 2, .count = 1, .block = 2},
      {.start = 0, .stride = 3, .count = 1, .block = 3},
      {.start = 0, .stride = 2, .count = 1, .block = 2}},
     {2, 3, 2},
     {3, 0}}};

/// Row-major elements of a box inside a tensor, in order.
std::vector<std::int64_t> elements_of(const io::Slab& box, const Shape& shape) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < box.elements(); ++i) {
    std::int64_t rest = i, element = 0, stride = 1;
    for (int d = shape.rank() - 1; d >= 0; --d) {
      const auto at = static_cast<std::size_t>(d);
      element += (box.start[at] + rest % box.count[at]) * stride;
      rest /= box.count[at];
      stride *= shape[d];
    }
    out.push_back(element);
  }
  return out;
}

/// Maps a row's local elements to global ones, as the slice says, and the boxes must agree.
void expect_covers(const Rows& c, const std::map<std::int64_t, std::int64_t>& seen) {
  const nn::ParameterSpec spec{.name = "x", .shape = c.global, .slice = c.slice};
  const Shape local = nn::local_shape(c.slice);
  const std::int64_t row = local.rank() == 1 ? 1 : local.back();
  ASSERT_EQ(static_cast<std::int64_t>(seen.size()), c.rows.count * row);
  for (const auto& [element, global] : seen) {
    EXPECT_EQ(global, nn::global_run(spec, c.rows.first * row + element).global) << element;
  }
}

TEST(Boxes, OfRowsMapEachOfTheirElementsOnce) {
  for (const Rows& c : kRows) {
    for (const std::int64_t most : {1, 3, 1000}) {
      const Shape local = nn::local_shape(c.slice);
      const std::int64_t row = local.rank() == 1 ? 1 : local.back();
      std::map<std::int64_t, std::int64_t> seen;
      for (const BoxPair& box : boxes(c.slice, c.rows, most)) {
        const auto from = elements_of(box.local, local), to = elements_of(box.global, c.global);
        EXPECT_LE(box.local.elements(), std::max<std::int64_t>(most, 1));
        for (std::size_t i = 0; i < from.size(); ++i) {
          EXPECT_TRUE(seen.emplace(from[i] - c.rows.first * row, to[i]).second);
        }
      }
      expect_covers(c, seen);
    }
  }
}

TEST(Boxes, OfStoredRowsMapEachOfTheirElementsOnce) {
  for (const Rows& c : kRows) {
    const Shape stored = stored_shape(nn::local_shape(c.slice), c.rows);
    std::map<std::int64_t, std::int64_t> seen;
    for (const StoredBox& box : stored_boxes(c.slice, c.rows)) {
      const auto from = elements_of(box.stored, stored), to = elements_of(box.global, c.global);
      ASSERT_EQ(from.size(), to.size());
      for (std::size_t i = 0; i < from.size(); ++i) {
        EXPECT_TRUE(seen.emplace(from[i], to[i]).second);
      }
    }
    expect_covers(c, seen);
  }
}

}  // namespace
}  // namespace shoal::train
