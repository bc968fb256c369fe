#include "shoal/ops/routed_swiglu.hpp"

#include <cmath>

#include "ops/parity.hpp"
#include "shoal/ops/take.hpp"
#include "support/finite_difference.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

struct Size {
  std::int64_t R, F;
  std::int32_t limit = -1;  ///< rows in use; -1: no limit is given
};
struct Given {
  Values dh, gate_up, weight;
};
Given given(Size s, DType dtype) {
  return {values(s.R * s.F, 1, dtype), values(s.R * 2 * s.F, 2, dtype, 3.0F),
          values(s.R, 3, DType::f32)};
}
struct Gradients {
  Values gate_up, h, weight;
};

/// `in_place`: h takes the memory of dh.
Gradients backward(const Exec& exec, DType elem, Size s, const Given& in, bool in_place) {
  const Tensor dgate_up = test::poisoned(exec, {s.R, 2 * s.F}, elem);
  const Tensor dweight = test::poisoned(exec, {s.R}, DType::f32);
  const Tensor dh = test::from_values(exec, {s.R, s.F}, elem, in.dh);
  const Tensor apart = test::poisoned(exec, {s.R, s.F}, elem);
  const Tensor limit = s.limit < 0 ? Tensor{} : test::from_ints(exec, {1}, {s.limit});
  const TensorView h = in_place ? dh.view() : apart.view();
  routed_swiglu_backward(exec,
                         {.dgate_up_RF = dgate_up,
                          .h_RF = h,
                          .dweight_R = dweight,
                          .dh_RF = dh,
                          .gate_up_RF = test::from_values(exec, {s.R, 2 * s.F}, elem, in.gate_up),
                          .weight_R = test::from_values(exec, {s.R}, DType::f32, in.weight),
                          .rows_limit = limit});
  return {download_floats(exec, dgate_up), download_floats(exec, h),
          download_floats(exec, dweight)};
}

double hidden(const Values& gate_up, Size s, std::int64_t r, std::int64_t f) {
  const double gate = gate_up[static_cast<std::size_t>(r * 2 * s.F + f)];
  return gate / (1.0 + std::exp(-gate)) * gate_up[static_cast<std::size_t>((r * 2 + 1) * s.F + f)];
}

TEST(RoutedSwiglu, IsTheGradientOfTheWeightedHiddenRows) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Size s{3, 5};
  const Given in = given(s, DType::f32);
  const auto loss = [&](const Values& gate_up, const Values& weight) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < s.R * s.F; ++i) {
      sum += double{in.dh[static_cast<std::size_t>(i)]} *
             weight[static_cast<std::size_t>(i / s.F)] * hidden(gate_up, s, i / s.F, i % s.F);
    }
    return sum;
  };
  const Gradients got = backward(exec, DType::f32, s, in, true);
  EXPECT_TRUE(test::gradient_matches([&](const Values& v) { return loss(v, in.weight); },
                                     in.gate_up, got.gate_up));
  EXPECT_TRUE(test::gradient_matches([&](const Values& v) { return loss(in.gate_up, v); },
                                     in.weight, got.weight));
  Values want;
  for (std::int64_t i = 0; i < s.R * s.F; ++i) {
    want.push_back(static_cast<float>(in.weight[static_cast<std::size_t>(i / s.F)] *
                                      hidden(in.gate_up, s, i / s.F, i % s.F)));
  }
  EXPECT_TRUE(test::all_near(got.h, want, test::tolerance(DType::f32)));
}

using RoutedSwigluParity = test::Parity;

TEST_P(RoutedSwigluParity, MatchesTheCpuInFp32) {
  for (const Size s :
       {Size{0, 8}, {1, 1}, {2, 31}, {3, 32}, {5, 33}, {257, 64}, {3, 2056}, {2, 1021}}) {
    SCOPED_TRACE("R " + std::to_string(s.R) + " F " + std::to_string(s.F));
    const Given in = given(s, dtype_);
    const Gradients want = backward(oracle_, DType::f32, s, in, false);
    for (const bool in_place : {false, true}) {
      const Gradients got = backward(exec_, dtype_, s, in, in_place);
      EXPECT_TRUE(test::all_near(got.gate_up, want.gate_up, test::tolerance(dtype_)));
      EXPECT_TRUE(test::all_near(got.h, want.h, test::tolerance(dtype_)));
      EXPECT_TRUE(test::all_near(got.weight, want.weight, test::tolerance(DType::f32, s.F)));
    }
  }
}

TEST_P(RoutedSwigluParity, LeavesTheRowsBeyondTheLimitAlone) {
  const Given in = given({6, 40}, dtype_);
  const Gradients all = backward(exec_, dtype_, {6, 40}, in, false);
  for (const std::int32_t limit : {0, 1, 5, 6}) {
    const Gradients got = backward(exec_, dtype_, {6, 40, limit}, in, false);
    const auto expect_first = [limit](const Values& v, const Values& want, std::int32_t columns) {
      for (std::size_t i = 0; i < v.size(); ++i) {
        if (i < static_cast<std::size_t>(limit) * static_cast<std::size_t>(columns)) {
          EXPECT_EQ(v[i], want[i]) << "element " << i;
        } else {
          EXPECT_TRUE(std::isnan(v[i])) << "limit " << limit << " element " << i;
        }
      }
    };
    expect_first(got.gate_up, all.gate_up, 80);
    expect_first(got.h, all.h, 40);
    expect_first(got.weight, all.weight, 1);
  }
}

TEST_P(RoutedSwigluParity, TakeReadsByIndexAndGivesZeroForNone) {
  const std::int64_t N = 517;
  const Values from = values(N, 4, DType::f32);
  std::vector<std::int32_t> index;
  Values want;
  for (std::int64_t i = 0; i < 300; ++i) {
    index.push_back(i % 7 == 3 ? -1 : static_cast<std::int32_t>(i * 37 % N));
    want.push_back(index.back() < 0 ? 0.0F : from[static_cast<std::size_t>(index.back())]);
  }
  const Tensor out = test::poisoned(exec_, {100, 3}, DType::f32);
  take(exec_, {.out = out,
               .values = test::from_values(exec_, {N}, DType::f32, from),
               .index = test::from_ints(exec_, {100, 3}, index)});
  EXPECT_TRUE(test::all_equal(download_floats(exec_, out), want));
}

INSTANTIATE_TEST_SUITE_P(Variants, RoutedSwigluParity, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
