#include "ops/attention_problem.hpp"
#include "ops/both_devices.hpp"

namespace shoal::ops {
namespace {

using AttentionTest = test::BothDevices;

std::string text(const AttentionCase& x) {
  return std::string{name(x.dtype)} + " T " + std::to_string(x.T) + " H " + std::to_string(x.H) +
         " G " + std::to_string(x.G) + " d " + std::to_string(x.d);
}

TEST_P(AttentionTest, ForwardMatchesPlainLoops) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const AttentionCase& x : shapes(dtype)) {
      SCOPED_TRACE(text(x));
      const Problem p = make_problem(exec_, x);
      forward(exec_, p);
      const AttentionResult want = expected(exec_, p);
      EXPECT_TRUE(
          test::all_near(columns(exec_, p.out, kMargin, x.H * x.d), want.out, tolerance(x, 2.0)));
      EXPECT_TRUE(test::all_near(active_lse(exec_, p), want.lse, {1e-5, 1e-5}));
      EXPECT_TRUE(all_nan(columns(exec_, p.out, 0, kMargin)));
    }
  }
}

TEST_P(AttentionTest, TakesAScaleBelowZero) {
  const AttentionCase x{130, 2, 1, 64, DType::bf16, {50}};
  Problem p = make_problem(exec_, x);
  p.scale = -p.scale;
  forward(exec_, p);
  const AttentionResult want = expected(exec_, p);
  const std::int64_t q = x.H * x.d, k = x.G * x.d;
  EXPECT_TRUE(test::all_near(columns(exec_, p.out, kMargin, q), want.out, tolerance(x, 2.0)));
  backward(exec_, p);
  EXPECT_TRUE(gradient_near(columns(exec_, p.dqk, 0, q), want.dq, x)) << "dq";
  EXPECT_TRUE(gradient_near(columns(exec_, p.dqk, q, k), want.dk, x)) << "dk";
  EXPECT_TRUE(gradient_near(columns(exec_, p.dv, kMargin, k), want.dv, x)) << "dv";
}

TEST_P(AttentionTest, BackwardMatchesPlainLoops) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const AttentionCase& x : shapes(dtype)) {
      SCOPED_TRACE(text(x));
      const Problem p = make_problem(exec_, x);
      forward(exec_, p);
      backward(exec_, p);
      const AttentionResult want = expected(exec_, p);
      const std::int64_t q = x.H * x.d, k = x.G * x.d;
      EXPECT_TRUE(gradient_near(columns(exec_, p.dqk, 0, q), want.dq, x)) << "dq";
      EXPECT_TRUE(gradient_near(columns(exec_, p.dqk, q, k), want.dk, x)) << "dk";
      EXPECT_TRUE(gradient_near(columns(exec_, p.dv, kMargin, k), want.dv, x)) << "dv";
      EXPECT_TRUE(all_nan(columns(exec_, p.dv, 0, kMargin)));
    }
  }
}

TEST_P(AttentionTest, InactivePairsAreExactZeros) {
  for (const auto& [dtype, d] :
       {std::pair{DType::f32, 32}, {DType::bf16, 32}, {DType::bf16, 64}, {DType::f16, 128}}) {
    const AttentionCase x{130, 4, 2, d, dtype, {50}, std::vector<std::int32_t>(130, 1)};
    const Problem p = make_problem(exec_, x);
    forward(exec_, p);
    backward(exec_, p);
    const auto zeros = [](std::int64_t n) {
      return std::vector<float>(static_cast<std::size_t>(n), 0.0F);
    };
    const std::int64_t q = x.H * x.d, half = q / 2, k = x.d;
    EXPECT_TRUE(test::all_equal(columns(exec_, p.out, kMargin + half, half), zeros(x.T * half)));
    EXPECT_TRUE(test::all_equal(columns(exec_, p.dqk, half, half), zeros(x.T * half)));
    EXPECT_TRUE(test::all_equal(columns(exec_, p.dqk, q + k, k), zeros(x.T * k)));
    EXPECT_TRUE(test::all_equal(columns(exec_, p.dv, kMargin + k, k), zeros(x.T * k)));
  }
}

/// <dout, out> as a function of the inputs, in double.
double loss(const Exec& exec, const Problem& p) {
  forward(exec, p);
  const auto out = columns(exec, p.out, kMargin, p.x.H * p.x.d);
  const auto dout = columns(exec, p.dout, 0, p.x.H * p.x.d);
  double sum = 0.0;
  for (std::size_t i = 0; i < out.size(); ++i) sum += double{out[i]} * dout[i];
  return sum;
}

/// Derivative of the loss along `direction` of one input by central differences.
double slope(const Exec& exec, const Problem& p, const Tensor& input,
             const std::vector<float>& direction) {
  const auto at = download_floats(exec, input);
  const auto moved = [&](float step) {
    auto values = at;
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * direction[i];
    upload_values(exec, input.view(), values);
    return loss(exec, p);
  };
  constexpr float kStep = 1e-2F;
  const double difference = moved(kStep) - moved(-kStep);
  upload_values(exec, input.view(), at);
  return difference / (2.0 * kStep);
}

TEST_P(AttentionTest, BackwardMatchesFiniteDifferences) {
  const AttentionCase x{45, 4, 2, 16, DType::f32, {17}, pattern(45, 2, 8)};
  const Problem p = make_problem(exec_, x);
  forward(exec_, p);
  backward(exec_, p);
  const auto check = [&](const Tensor& input, const std::vector<float>& gradient) {
    for (std::uint64_t seed = 10; seed < 14; ++seed) {
      auto direction = download_floats(exec_, test::normal(exec_, input.shape(), DType::f32, seed));
      double want = 0.0, norm = 0.0;
      for (std::size_t i = 0; i < direction.size(); ++i) {
        if (std::isnan(gradient[i])) direction[i] = 0.0F;  // the margin beside the heads
        if (direction[i] == 0.0F) continue;
        want += double{gradient[i]} * direction[i];
        norm += std::pow(gradient[i], 2);
      }
      EXPECT_NEAR(slope(exec_, p, input, direction), want, 2e-3 * std::sqrt(norm));
    }
  };
  check(p.qk, download_floats(exec_, p.dqk));
  check(p.v, download_floats(exec_, p.dv));
}

TEST_P(AttentionTest, SameBitsTwice) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Problem p = make_problem(exec_, {300, 4, 2, 64, dtype, {70, 150}, pattern(300, 2, 64)});
    const auto run = [&] {
      forward(exec_, p);
      backward(exec_, p);
      auto all = columns(exec_, p.out, kMargin, p.x.H * p.x.d);
      const auto gradients = download_floats(exec_, p.dqk);
      all.insert(all.end(), gradients.begin(), gradients.end());
      const auto dv = columns(exec_, p.dv, kMargin, p.x.G * p.x.d);
      all.insert(all.end(), dv.begin(), dv.end());
      return all;
    };
    const auto first = run();
    EXPECT_TRUE(test::all_equal(run(), first));
  }
}

/// Generation in pieces must give what one forward pass gives.
TEST_P(AttentionTest, CachedEqualsFullForward) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const std::int64_t d : {16, 64, 80, 128}) {
      const AttentionCase x{131, 4, 2, d, dtype, {}, pattern(131, 2, 64)};
      const Problem p = make_problem(exec_, x);
      forward(exec_, p);
      const auto want = columns(exec_, p.out, kMargin, x.H * x.d);
      const Shape cache{140, x.G, x.d};
      const auto keys = columns(exec_, p.qk, x.H * x.d, x.G * x.d);
      const auto values = columns(exec_, p.v, kMargin, x.G * x.d);
      const auto padded = [&](std::vector<float> v) {
        v.resize(static_cast<std::size_t>(cache.elements()), std::nanf(""));
        return test::from_values(exec_, cache, dtype, v);
      };
      const Tensor k = padded(keys), v = padded(values);
      for (const auto& [first, count] : std::vector<std::pair<std::int64_t, std::int64_t>>{
               {0, 131}, {0, 1}, {130, 1}, {60, 70}, {64, 1}}) {
        SCOPED_TRACE(text(x) + " first " + std::to_string(first));
        const Tensor out = test::poisoned(exec_, {count, x.H * x.d}, dtype);
        const auto rows = [&](const Tensor& all) {
          return ConstTensorView{all}.rows(first, count);
        };
        attention_cached(exec_, {.out_TC = out,
                                 .q = {rows(p.qk), 0, x.H, x.d},
                                 .k_PGd = k,
                                 .v_PGd = v,
                                 .active_groups_T = rows(p.active),
                                 .first = first,
                                 .scale = p.scale});
        const auto begin = want.begin() + static_cast<std::ptrdiff_t>(first * x.H * x.d);
        EXPECT_TRUE(test::all_near(download_floats(exec_, out),
                                   {begin, begin + static_cast<std::ptrdiff_t>(count * x.H * x.d)},
                                   tolerance(x, 2.0)));
      }
    }
  }
}

TEST_P(AttentionTest, RefusesHeadsThatAreNoMultipleOfGroups) {
  Problem p = make_problem(exec_, {4, 2, 2, 16, DType::f32});
  p.x.H = 1;
  EXPECT_THROW(forward(exec_, p), Error);
}

TEST(AttentionDry, CountsWhatTheRunTakes) {
  const AttentionCase x{100, 2, 1, 16, DType::bf16};
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const Exec big = test::make_exec(DeviceKind::cpu);
  const Problem p = make_problem(big, x);
  forward(dry, p);
  backward(dry, p);
  const Exec exec{DeviceKind::cpu, dry.arena().plan()};
  EXPECT_NO_THROW(forward(exec, p));
  EXPECT_NO_THROW(backward(exec, p));
  EXPECT_EQ(exec.arena().plan().scratch, dry.arena().plan().scratch);
}

INSTANTIATE_TEST_SUITE_P(Devices, AttentionTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
