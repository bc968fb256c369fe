#include <cmath>

#include "ops/parity.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

Values normals(const Exec& exec, DType elem, std::int64_t first, std::int64_t n) {
  const Tensor y = test::poisoned(exec, {n}, elem);
  fill_normal(exec, {.y = y, .seed = 11, .stream = 3, .first = first, .std = 0.5F});
  return download_floats(exec, y);
}

TEST(FillNormal, HasTheRightMoments) {
  const Values y = normals(test::make_exec(DeviceKind::cpu), DType::f32, 0, 100000);
  double mean = 0.0, square = 0.0;
  for (const float v : y) {
    mean += v / 1e5;
    square += double{v} * v / 1e5;
  }
  EXPECT_NEAR(mean, 0.0, 0.01);
  EXPECT_NEAR(square, 0.25, 0.005);
}

struct Drop {
  float p = 0.25F;
  std::int64_t first = 0, seed = 5;
  std::uint32_t stream = 9;
};
Values dropped(const Exec& exec, DType elem, const Values& x, Drop d, const Values& add = {}) {
  const Shape shape{static_cast<std::int64_t>(x.size())};
  const Tensor y = test::poisoned(exec, shape, elem);
  const Tensor x_view = test::from_values(exec, shape, elem, x);
  const Tensor add_view = add.empty() ? Tensor{} : test::from_values(exec, shape, elem, add);
  const Tensor seed{exec.device(), {1}, DType::i64};
  upload(exec, seed.view().bytes_begin(), &d.seed, sizeof d.seed);
  dropout(exec, {.y = y,
                 .x = x_view,
                 .add = add_view,
                 .step_seed = seed,
                 .p = d.p,
                 .stream = d.stream,
                 .first = d.first});
  return download_floats(exec, y);
}

TEST(Dropout, KeepsTheMeanAndTheRate) {
  const Values y = dropped(test::make_exec(DeviceKind::cpu), DType::f32, Values(100000, 3.0F), {});
  double mean = 0.0, zeros = 0.0;
  for (const float v : y) {
    EXPECT_TRUE(v == 0.0F || v == 4.0F);
    mean += v / 1e5;
    zeros += (v == 0.0F) / 1e5;
  }
  EXPECT_NEAR(mean, 3.0, 0.03);
  EXPECT_NEAR(zeros, 0.25, 0.005);
}

TEST(Dropout, NeighboursAreIndependent) {
  const Values y = dropped(test::make_exec(DeviceKind::cpu), DType::f32, Values(100000, 1.0F), {});
  for (std::size_t lane = 0; lane < 4; ++lane) {  // of a group that shares one Philox block
    double both = 0.0;
    for (std::size_t i = lane; i + 1 < y.size(); i += 4) both += y[i] == 0.0F && y[i + 1] == 0.0F;
    EXPECT_NEAR(both / 25000.0, 0.0625, 0.008) << "lane " << lane;
  }
}

TEST(Dropout, DependsOnSeedAndStream) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Values ones(64, 1.0F);
  const Values y = dropped(exec, DType::f32, ones, {});
  EXPECT_NE(y, dropped(exec, DType::f32, ones, {.seed = 6}));
  EXPECT_NE(y, dropped(exec, DType::f32, ones, {.stream = 10}));
  EXPECT_EQ(ones, dropped(exec, DType::f32, ones, {.p = 0.0F}));
}

TEST(Dropout, RefusesToDropEverything) {
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const TensorView y = scratch(dry, {4}, DType::f32), seed = scratch(dry, {1}, DType::i64);
  EXPECT_THROW(dropout(dry, {.y = y, .x = y, .step_seed = seed, .p = 1.0F}), Error);
}

using RandomParity = test::Parity;

TEST_P(RandomParity, NormalsAreTheSameBitsOnAnySplit) {
  const Values whole = normals(oracle_, dtype_, 0, 1000);
  for (const std::int64_t first : {0, 1, 333, 999}) {
    EXPECT_TRUE(test::all_equal(normals(exec_, dtype_, first, 1000 - first),
                                Values(whole.begin() + first, whole.end())));
  }
  EXPECT_TRUE(normals(exec_, dtype_, 5, 0).empty());
}

TEST_P(RandomParity, DropoutIsTheSameOnAnySplit) {
  const Values x = values(1000, 1, dtype_);
  const Values whole = dropped(oracle_, dtype_, x, {});
  for (const std::int64_t first : {0, 1, 2, 4, 333, 999}) {
    for (const std::int64_t n : {std::int64_t{1}, std::int64_t{5}, 1000 - first}) {
      const auto end = std::min<std::int64_t>(1000, first + n);
      const Values part{x.begin() + first, x.begin() + end};
      EXPECT_TRUE(test::all_equal(dropped(exec_, dtype_, part, {.first = first}),
                                  Values(whole.begin() + first, whole.begin() + end)))
          << "first " << first << " n " << n;
    }
  }
}

TEST_P(RandomParity, DropoutAddsTheResidual) {
  const Values x = values(1001, 1, dtype_), add = values(1001, 2, dtype_);
  Values want = dropped(oracle_, DType::f32, x, {});
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += add[i];
  EXPECT_TRUE(test::all_near(dropped(exec_, dtype_, x, {}, add), want, test::tolerance(dtype_)));
}

INSTANTIATE_TEST_SUITE_P(Variants, RandomParity, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
