#include "shoal/ops/partials.hpp"

#include "ops/both_devices.hpp"
#include "ops/parity.hpp"

namespace shoal::ops {
namespace {

TEST(Partials, PartsCoverAllRowsAndAreBounded) {
  for (const std::int64_t rows : {0, 1, 31, 32, 33, 1000, 16384, 16385, 1000003}) {
    EXPECT_GE(part_count(rows) * part_size(rows), rows);
    EXPECT_LE(part_count(rows), kMaxParts);
    EXPECT_EQ(part_count(rows) == 0, rows == 0);
  }
}

using PartialsOnBothDevices = test::BothDevices;

TEST_P(PartialsOnBothDevices, SumOverwritesOrAdds) {
  for (const Shape& shape : {Shape{0, 3}, Shape{1, 1}, Shape{31, 33}, Shape{67, 32}, Shape{512, 7},
                             Shape{1031, 2}, Shape{3, 0}}) {
    SCOPED_TRACE(std::to_string(shape[0]) + " parts of " + std::to_string(shape[1]));
    const auto columns = static_cast<std::size_t>(shape[1]);
    const auto part = test::values(shape.elements(), 1), before = test::values(shape[1], 2);
    std::vector<float> sum(columns, 0.0F), added = before;
    for (std::size_t i = 0; i < part.size(); ++i) sum[i % columns] += part[i];
    for (std::size_t c = 0; c < columns; ++c) added[c] += sum[c];
    const Tensor part_PC = test::from_values(exec_, shape, DType::f32, part);
    const Tensor out = test::poisoned(exec_, {shape[1]}, DType::f32);
    const Tensor into = test::from_values(exec_, {shape[1]}, DType::f32, before);
    sum_parts(exec_, out, part_PC, Accumulate::overwrite);
    sum_parts(exec_, into, part_PC, Accumulate::add);
    const auto tolerance = test::tolerance(DType::f32, shape[0]);
    EXPECT_TRUE(test::all_near(download_floats(exec_, out), sum, tolerance));
    EXPECT_TRUE(test::all_near(download_floats(exec_, into), added, tolerance));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, PartialsOnBothDevices, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
