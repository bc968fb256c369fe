#include "shoal/ops/swiglu.hpp"

#include <cmath>

#include "ops/parity.hpp"
#include "support/finite_difference.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

struct Size {
  std::int64_t R, F;
  std::int32_t limit = -1;  ///< rows in use; -1: no limit is given
};

/// Shared by both directions: the optional limit on the device.
Tensor limit_on(const Exec& exec, Size s) {
  return s.limit < 0 ? Tensor{} : test::from_ints(exec, {1}, {s.limit});
}

Values forward(const Exec& exec, DType elem, Size s, const Values& gate_up) {
  const Tensor h = test::poisoned(exec, {s.R, s.F}, elem);
  const Tensor gate_up_RF = test::from_values(exec, {s.R, 2 * s.F}, elem, gate_up);
  const Tensor limit = limit_on(exec, s);
  swiglu_forward(exec, {.h_RF = h, .gate_up_RF = gate_up_RF, .rows_limit = limit});
  return download_floats(exec, h);
}

Values backward(const Exec& exec, DType elem, Size s, const Values& dh, const Values& gate_up) {
  const Tensor dgate_up = test::poisoned(exec, {s.R, 2 * s.F}, elem);
  const Tensor dh_RF = test::from_values(exec, {s.R, s.F}, elem, dh);
  const Tensor gate_up_RF = test::from_values(exec, {s.R, 2 * s.F}, elem, gate_up);
  const Tensor limit = limit_on(exec, s);
  swiglu_backward(
      exec,
      {.dgate_up_RF = dgate_up, .dh_RF = dh_RF, .gate_up_RF = gate_up_RF, .rows_limit = limit});
  return download_floats(exec, dgate_up);
}

TEST(Swiglu, MatchesTheFormula) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Values x = values(3 * 34, 1, DType::f32, 4.0F);
  Values want;
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t f = 0; f < 17; ++f) {
      const double gate = x[r * 34 + f];
      want.push_back(static_cast<float>(gate / (1.0 + std::exp(-gate)) * x[r * 34 + 17 + f]));
    }
  }
  EXPECT_TRUE(
      test::all_near(forward(exec, DType::f32, {3, 17}, x), want, test::tolerance(DType::f32)));
}

TEST(Swiglu, BackwardIsTheGradient) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Size s{2, 5};
  const Values x = values(20, 1), dh = values(10, 2);
  const auto loss = [&](const Values& v) {
    return test::weighted_sum(forward(exec, DType::f32, s, v), dh);
  };
  EXPECT_TRUE(test::gradient_matches(loss, x, backward(exec, DType::f32, s, dh, x)));
}

using SwigluParity = test::Parity;

TEST_P(SwigluParity, MatchesTheCpuInFp32) {
  for (const Size s :
       {Size{0, 8}, {1, 1}, {2, 31}, {3, 32}, {5, 33}, {257, 64}, {3, 2056}, {2, 1021}}) {
    SCOPED_TRACE("R " + std::to_string(s.R) + " F " + std::to_string(s.F));
    const Values x = values(s.R * 2 * s.F, 1, dtype_, 3.0F), dh = values(s.R * s.F, 2, dtype_);
    EXPECT_TRUE(test::all_near(forward(exec_, dtype_, s, x), forward(oracle_, DType::f32, s, x),
                               test::tolerance(dtype_)));
    EXPECT_TRUE(test::all_near(backward(exec_, dtype_, s, dh, x),
                               backward(oracle_, DType::f32, s, dh, x), test::tolerance(dtype_)));
  }
}

using SwigluLimit = test::Parity;

TEST_P(SwigluLimit, LeavesTheRowsBeyondItAlone) {
  const Size all{6, 40};
  const Values x = values(6 * 80, 1, dtype_), dh = values(6 * 40, 2, dtype_);
  for (const std::int32_t limit : {0, 1, 5, 6}) {
    const Size s{6, 40, limit};
    const auto used = [&](Values v, std::int64_t columns) {
      for (auto i = static_cast<std::size_t>(limit * columns); i < v.size(); ++i) {
        EXPECT_TRUE(std::isnan(v[i])) << "limit " << limit << " element " << i;
      }
      v.resize(static_cast<std::size_t>(limit * columns));
      return v;
    };
    const auto first = [&](Values v, std::int64_t columns) {
      v.resize(static_cast<std::size_t>(limit * columns));
      return v;
    };
    EXPECT_TRUE(test::all_equal(used(forward(exec_, dtype_, s, x), 40),
                                first(forward(exec_, dtype_, all, x), 40)));
    EXPECT_TRUE(test::all_equal(used(backward(exec_, dtype_, s, dh, x), 80),
                                first(backward(exec_, dtype_, all, dh, x), 80)));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, SwigluParity, test::variants(), test::variant_name);
INSTANTIATE_TEST_SUITE_P(Variants, SwigluLimit, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
