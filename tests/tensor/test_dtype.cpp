#include "shoal/tensor/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "shoal/tensor/view.hpp"

namespace shoal {
namespace {

TEST(DType, Bf16RoundsToNearestEven) {
  EXPECT_EQ(from_float<Bf16>(1.0F).bits, 0x3F80);
  EXPECT_EQ(from_float<Bf16>(1.0F + 0x1p-8F).bits, 0x3F80) << "tie goes to even";
  EXPECT_EQ(from_float<Bf16>(1.0F + 0x1p-7F + 0x1p-8F).bits, 0x3F82) << "tie goes to even";
  EXPECT_TRUE(std::isnan(to_float(from_float<Bf16>(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(DType, HalfOverflowsToInfinity) {
  EXPECT_EQ(to_float(from_float<Half>(65504.0F)), 65504.0F);
  EXPECT_TRUE(std::isinf(to_float(from_float<Half>(70000.0F))));
}

TEST(View, RowsAndReshapeKeepTheElements) {
  float values[12] = {};
  const TensorView view{values, {4, 3}, DType::f32};
  EXPECT_EQ(view.rows(1, 2).data<float>(), values + 3);
  EXPECT_EQ(view.reshape({2, 6}).dim(1), 6);
  EXPECT_THROW((void)view.rows(3, 2), Error);
  EXPECT_THROW((void)view.data<Bf16>(), Error);
}

}  // namespace
}  // namespace shoal
