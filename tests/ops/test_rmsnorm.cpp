#include "shoal/ops/rmsnorm.hpp"

#include <cmath>

#include "ops/parity.hpp"
#include "shoal/ops/partials.hpp"
#include "support/finite_difference.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

struct Size {
  std::int64_t T, D;
};

struct Forward {
  Values y, rstd, sum;
};
Forward forward(const Exec& exec, DType elem, Size s, const Values& x, const Values& w,
                const Values& add = {}) {
  const Shape shape{s.T, s.D};
  const Tensor y = test::poisoned(exec, shape, elem);
  const Tensor rstd = test::poisoned(exec, {s.T}, DType::f32);
  const Tensor sum = test::poisoned(exec, shape, elem);
  const Tensor x_TD = test::from_values(exec, shape, elem, x);
  const Tensor w_D = test::from_values(exec, {s.D}, elem, w);
  RmsNormForward args{.y_TD = y, .rstd_T = rstd, .x_TD = x_TD, .w_D = w_D, .eps = 1e-3F};
  Tensor add_TD;
  if (!add.empty()) {
    add_TD = test::from_values(exec, shape, elem, add);
    args.add_TD = add_TD;
    args.sum_TD = sum;
  }
  rmsnorm_forward(exec, args);
  return {download_floats(exec, y), download_floats(exec, rstd), download_floats(exec, sum)};
}

struct Backward {
  Values dx, dw;
};
/// `before`: what dw is added to.
Backward backward(const Exec& exec, DType elem, Size s, const Values& dy, const Values& x,
                  const Values& w, const Values& rstd, const Values& add = {},
                  const Values& before = {}) {
  const Shape shape{s.T, s.D};
  const Tensor dx = test::poisoned(exec, shape, elem);
  const Tensor part = test::poisoned(exec, {part_count(s.T), s.D}, DType::f32);
  const Tensor dw = before.empty() ? test::poisoned(exec, {s.D}, DType::f32)
                                   : test::from_values(exec, {s.D}, DType::f32, before);
  const Tensor dy_TD = test::from_values(exec, shape, elem, dy);
  const Tensor x_TD = test::from_values(exec, shape, elem, x);
  const Tensor w_D = test::from_values(exec, {s.D}, elem, w);
  const Tensor rstd_T = test::from_values(exec, {s.T}, DType::f32, rstd);
  RmsNormBackward args{
      .dx_TD = dx, .part_PD = part, .dy_TD = dy_TD, .x_TD = x_TD, .w_D = w_D, .rstd_T = rstd_T};
  Tensor add_TD;
  if (!add.empty()) {
    add_TD = test::from_values(exec, shape, elem, add);
    args.add_TD = add_TD;
  }
  rmsnorm_backward(exec, args);
  sum_parts(exec, dw, part, before.empty() ? Accumulate::overwrite : Accumulate::add);
  return {download_floats(exec, dx), download_floats(exec, dw)};
}

TEST(RmsNorm, MatchesTheFormula) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Size s{5, 37};
  const Values x = values(s.T * s.D, 1), w = values(s.D, 2), add = values(s.T * s.D, 3);
  const Forward got = forward(exec, DType::f32, s, x, w, add);
  Values y, rstd, sum;
  for (std::size_t t = 0; t < 5; ++t) {
    double square = 0.0;
    for (std::size_t d = 0; d < 37; ++d)
      square += std::pow(double{x[t * 37 + d]} + add[t * 37 + d], 2);
    rstd.push_back(static_cast<float>(1.0 / std::sqrt(square / 37.0 + 1e-3)));
    for (std::size_t d = 0; d < 37; ++d) {
      sum.push_back(x[t * 37 + d] + add[t * 37 + d]);
      y.push_back(sum.back() * rstd.back() * w[d]);
    }
  }
  EXPECT_TRUE(test::all_near(got.y, y, test::tolerance(DType::f32)));
  EXPECT_TRUE(test::all_near(got.rstd, rstd, test::tolerance(DType::f32)));
  EXPECT_TRUE(test::all_equal(got.sum, sum));
}

TEST(RmsNorm, BackwardIsTheGradient) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Size s{3, 7};
  const Values x = values(21, 1), w = values(7, 2), dy = values(21, 3);
  const Values rstd = forward(exec, DType::f32, s, x, w).rstd;
  const auto loss = [&](const Values& x_now, const Values& w_now) {
    return test::weighted_sum(forward(exec, DType::f32, s, x_now, w_now).y, dy);
  };
  const Backward got = backward(exec, DType::f32, s, dy, x, w, rstd);
  EXPECT_TRUE(test::gradient_matches([&](const Values& v) { return loss(v, w); }, x, got.dx));
  EXPECT_TRUE(test::gradient_matches([&](const Values& v) { return loss(x, v); }, w, got.dw));
}

TEST(RmsNorm, BackwardAddsTheResidualGradient) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Size s{2, 9};
  const Values x = values(18, 1), w = values(9, 2), dy = values(18, 3), add = values(18, 4);
  const Values rstd = {0.5F, 2.0F};
  Values want = backward(exec, DType::f32, s, dy, x, w, rstd).dx;
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += add[i];
  EXPECT_TRUE(test::all_near(backward(exec, DType::f32, s, dy, x, w, rstd, add).dx, want,
                             test::tolerance(DType::f32)));
}

TEST(RmsNorm, WeightGradientOverwritesOrAdds) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Values x = values(8, 1), w = values(4, 4), dy = values(8, 2), before = values(4, 3);
  const Values rstd = {0.5F, 2.0F};
  Values want = backward(exec, DType::f32, {2, 4}, dy, x, w, rstd).dw;
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += before[i];
  EXPECT_TRUE(test::all_near(backward(exec, DType::f32, {2, 4}, dy, x, w, rstd, {}, before).dw,
                             want, test::tolerance(DType::f32)));
  EXPECT_EQ(backward(exec, DType::f32, {0, 4}, {}, {}, w, {}).dw, Values(4, 0.0F));
}

TEST(RmsNorm, RefusesAForeignDtype) {
  const Exec exec = Exec::dry(DeviceKind::cpu);
  const TensorView x = scratch(exec, {2, 4}, DType::f32);
  const TensorView row = scratch(exec, {4}, DType::bf16);
  const TensorView column = scratch(exec, {2}, DType::f32);
  EXPECT_THROW(rmsnorm_forward(exec, {.y_TD = x, .rstd_T = column, .x_TD = x, .w_D = row}), Error);
}

using RmsNormParity = test::Parity;

TEST_P(RmsNormParity, MatchesTheCpuInFp32) {
  for (const Size s : {Size{0, 8},
                       {1, 1},
                       {2, 31},
                       {3, 32},
                       {4, 33},
                       {5, 256},
                       {67, 128},
                       {131, 509},
                       {2, 4096},
                       {3, 8200},
                       {41, 768},
                       {2061, 72}}) {
    SCOPED_TRACE("T " + std::to_string(s.T) + " D " + std::to_string(s.D));
    const std::int64_t n = s.T * s.D;
    const Values x = values(n, 1, dtype_), w = values(s.D, 2, dtype_), dy = values(n, 3, dtype_);
    const Values add = values(n, 4, dtype_);
    const Forward want = forward(oracle_, DType::f32, s, x, w);
    const Forward got = forward(exec_, dtype_, s, x, w);
    EXPECT_TRUE(test::all_near(got.y, want.y, test::tolerance(dtype_)));
    EXPECT_TRUE(test::all_near(got.rstd, want.rstd, test::tolerance(DType::f32, s.D)));
    const Backward back = backward(exec_, dtype_, s, dy, x, w, want.rstd, add);
    const Backward want_back = backward(oracle_, DType::f32, s, dy, x, w, want.rstd, add);
    EXPECT_TRUE(test::all_near(back.dx, want_back.dx, test::tolerance(dtype_)));
    EXPECT_TRUE(test::all_near(back.dw, want_back.dw, test::tolerance(DType::f32, s.T)));
    // The rounded sum is what the statistics and the backward pass see.
    const Forward fused = forward(exec_, dtype_, s, x, w, n == 0 ? Values{} : add);
    if (n == 0) continue;
    EXPECT_TRUE(test::all_near(fused.sum, forward(oracle_, DType::f32, s, x, w, add).sum,
                               test::tolerance(dtype_)));
    EXPECT_TRUE(test::all_near(fused.y, forward(oracle_, DType::f32, s, fused.sum, w).y,
                               test::tolerance(dtype_)));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, RmsNormParity, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
