#include <bit>
#include <limits>

#include "ops/optimizer_support.hpp"
#include "shoal/base/philox.hpp"

namespace shoal::ops {
namespace {

using test::Parameters;

class OptimizerStateTest : public test::BothDevices {
 protected:
  [[nodiscard]] StepState decide(const StepState& state, double square_sum,
                                 StepDecide args = {}) const {
    const Tensor tensor = test::upload_state(exec_, state);
    const Tensor sum{exec_.device(), {1}, DType::f64};
    upload(exec_, sum.view().bytes_begin(), &square_sum, sizeof(square_sum));
    args.state = tensor;
    args.square_sum = sum;
    step_decide(exec_, args);
    return test::download_state(exec_, tensor);
  }
};

TEST_P(OptimizerStateTest, ClipsTheGlobalNormAndDividesByTheLossScale) {
  const StepState big = decide({.loss_scale = 8.0F}, 64.0 * 25.0, {.max_norm = 1.0F});
  EXPECT_FLOAT_EQ(big.grad_norm, 5.0F);
  EXPECT_NEAR(big.grad_factor, 1.0 / (5.0 + 1e-6) / 8.0, 1e-9);
  const StepState small = decide({.loss_scale = 8.0F}, 64.0 * 0.25, {.max_norm = 1.0F});
  EXPECT_EQ(small.grad_factor, 0.125F);
  const StepState unclipped = decide({}, 1e6, {.max_norm = 0.0F});
  EXPECT_EQ(unclipped.grad_factor, 1.0F);
  EXPECT_FLOAT_EQ(unclipped.grad_norm, 1000.0F);
}

TEST_P(OptimizerStateTest, GoodStepsAdvancePowersAndCorrections) {
  StepState s{.mu = 0.75F};
  double mu_product = 1.0;
  for (int t = 1; t <= 50; ++t) {
    s.mu = 0.75F + static_cast<float>(t) * 0x1p-9F;
    mu_product *= s.mu;
    s = decide(s, 1.0, {.beta1 = 0.9, .beta2 = 0.999});
    EXPECT_EQ(s.good_steps, t);
    EXPECT_NEAR(s.correction1 * (1.0 - std::pow(0.9, t)), 1.0, 1e-6);
    EXPECT_NEAR(s.correction2 * (1.0 - std::pow(0.999, t)), 1.0, 1e-6);
    EXPECT_NEAR(s.correction_u * (1.0 - mu_product), 1.0, 1e-6);
    EXPECT_NEAR(s.beta2_power / std::pow(0.999, t), 1.0, 1e-12);
  }
}

TEST_P(OptimizerStateTest, NormThatIsNotFiniteSkips) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  StepState s = decide({.mu = 0.9F}, 4.0);
  for (const double sum : {kInf, std::nan(""), 1e80}) {
    const StepState skipped = decide(s, sum, {});
    EXPECT_EQ(skipped.skip, 1);
    EXPECT_EQ(skipped.skips_in_a_row, s.skips_in_a_row + 1);
    EXPECT_EQ(skipped.skipped_total, s.skipped_total + 1);
    EXPECT_EQ(skipped.good_steps, 1) << "a skipped step does not count";
    EXPECT_EQ(skipped.beta1_power, s.beta1_power);
    EXPECT_EQ(skipped.mu_product, s.mu_product);
    EXPECT_EQ(skipped.correction2, s.correction2);
    EXPECT_EQ(skipped.loss_scale, 1.0F);
    s = skipped;
  }
  s = decide(s, 4.0);
  EXPECT_EQ(s.skip, 0);
  EXPECT_EQ(s.skips_in_a_row, 0);
  EXPECT_EQ(s.skipped_total, 3);
}

TEST_P(OptimizerStateTest, LossScaleDoublesAfterGoodStepsAndHalvesOnASkip) {
  const StepDecide args{.dynamic_loss_scale = true, .growth_interval = 3};
  const double inf = std::numeric_limits<double>::infinity();
  StepState s{.loss_scale = 4.0F};
  std::vector<float> scales;
  for (const double sum : {1.0, 1.0, 1.0, 1.0, 1.0, inf, 1.0, 1.0, 1.0, inf, inf, inf, inf}) {
    s = decide(s, sum, args);
    scales.push_back(s.loss_scale);
  }
  EXPECT_EQ(scales, (std::vector<float>{4, 4, 8, 8, 8, 4, 4, 4, 8, 4, 2, 1, 1}));
}

TEST_P(OptimizerStateTest, LossScaleNeverFallsBelowOne) {
  const double inf = std::numeric_limits<double>::infinity();
  const StepDecide args{.dynamic_loss_scale = true};
  EXPECT_EQ(decide({.loss_scale = 1.5F}, inf, args).loss_scale, 1.0F);
  EXPECT_EQ(decide({.loss_scale = 1.0F}, inf, args).loss_scale, 1.0F);
}

TEST_P(OptimizerStateTest, ThisStepUsesTheScaleItsGradientsHave) {
  const StepState s = decide({.loss_scale = 4.0F, .scale_good_steps = 2}, 1.0,
                             {.max_norm = 0.0F, .dynamic_loss_scale = true, .growth_interval = 3});
  EXPECT_EQ(s.loss_scale, 8.0F);
  EXPECT_EQ(s.grad_factor, 0.25F);
}

TEST_P(OptimizerStateTest, FixedLossScaleStays) {
  const StepDecide args{.growth_interval = 1};
  EXPECT_EQ(decide({.loss_scale = 4.0F}, 1.0, args).loss_scale, 4.0F);
  EXPECT_EQ(decide({.loss_scale = 4.0F}, std::nan(""), args).loss_scale, 4.0F);
}

/// Bit patterns around ties, the edges of the format, and random ones.
std::vector<float> patterns() {
  std::vector<float> out;
  for (const std::uint32_t high : {0x0000U, 0x0001U, 0x007FU, 0x0080U, 0x3F80U, 0x3F81U, 0x7F7FU,
                                   0x7F80U, 0x8000U, 0xBF80U, 0xFF7FU, 0xFF80U}) {
    for (const std::uint32_t low : {0x0000U, 0x0001U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      out.push_back(std::bit_cast<float>(high << 16 | low));
    }
  }
  for (std::uint64_t i = 0; i < 20000; ++i) {
    out.push_back(std::bit_cast<float>(philox::block(9, philox::Purpose::test, i).x0));
  }
  return out;
}

TEST_P(OptimizerStateTest, SplitThenJoinIsTheIdentityOnAllBitPatterns) {
  const std::vector<float> values = patterns();
  const auto N = static_cast<std::int64_t>(values.size());
  const Tensor master = test::from_values(exec_, {N}, DType::f32, values);
  const Tensor value = test::poisoned(exec_, {N}, DType::bf16);
  const Tensor low = test::poisoned(exec_, {N}, DType::u16);
  const Tensor back = test::poisoned(exec_, {N}, DType::f32);
  split_master(exec_, {.value = value, .low = low, .master = master});
  join_master(exec_, {.value = value, .low = low, .master = back});
  const auto working = download_floats(exec_, value), joined = download_floats(exec_, back);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(working[i]) && std::isnan(joined[i])) << std::hex << bits;
      continue;
    }
    EXPECT_EQ(std::bit_cast<std::uint32_t>(joined[i]), bits);
    // The working weight is the nearest bf16 value; a tie goes away from zero.
    EXPECT_EQ(std::bit_cast<std::uint32_t>(working[i]) >> 16, (bits + 0x8000U) >> 16);
  }
}

TEST_P(OptimizerStateTest, OtherDtypesSplitByRounding) {
  for (const DType dtype : {DType::f32, DType::f16}) {
    const Tensor master = test::normal(exec_, {333}, DType::f32, 3);
    const Tensor value = test::poisoned(exec_, {333}, dtype);
    split_master(exec_, {.value = value, .master = master});
    const auto want = download_floats(exec_, test::normal(exec_, {333}, dtype, 3));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, value), want));
    join_master(exec_, {.value = value, .master = master});
    EXPECT_TRUE(test::all_equal(download_floats(exec_, master),
                                download_floats(exec_, test::normal(exec_, {333}, DType::f32, 3))));
  }
}

TEST_P(OptimizerStateTest, StochasticRoundingIsUnbiased) {
  constexpr std::int64_t N = 1 << 16;
  const Parameters p{exec_, N, DType::f32, DType::bf16, true};
  // m = 0.125 g and u = (1 - mu) d; g lies 0.3 of the way between two bf16 values.
  const float g = 1.0F + 0.3F * 0x1p-7F;
  StepState state{.lr = 0.0F, .mu = 0.875F, .step_seed = 77, .grad_factor = 1.0F};
  p.update(exec_, {.kind = OptimizerKind::amf, .beta1 = 0.875, .beta2 = 0.0, .eps = 0.0F},
           test::from_values(exec_, {N}, DType::f32, std::vector<float>(N, g)), state);
  const auto m = download_floats(exec_, p.m);
  double ups = 0.0;
  for (const float x : m) {
    ASSERT_TRUE(x == 0.125F || x == 0.125F * (1.0F + 0x1p-7F)) << x;
    ups += x == 0.125F ? 0.0 : 1.0;
  }
  EXPECT_NEAR(ups / N, 0.3, 4.0 * std::sqrt(0.3 * 0.7 / N));
}

TEST_P(OptimizerStateTest, RoundingOfMAndUIsIndependentAndChangesWithTheStep) {
  constexpr std::int64_t N = 1 << 16;
  const auto rounded_up = [&](std::int64_t seed) {
    const Parameters p{exec_, N, DType::f32, DType::bf16, true};
    const float g = 1.0F + 0x1p-8F;  // halfway between two bf16 values; v = 1 makes d = m
    upload_values(exec_, p.v, std::vector<float>(N, 1.0F));
    StepState state{.mu = 0.0F, .step_seed = seed, .grad_factor = 1.0F};
    p.update(exec_, {.kind = OptimizerKind::amf, .beta1 = 0.0, .beta2 = 1.0, .eps = 0.0F},
             test::from_values(exec_, {N}, DType::f32, std::vector<float>(N, g)), state);
    return std::pair{download_floats(exec_, p.m), download_floats(exec_, p.u)};
  };
  const auto agreement = [](const std::vector<float>& a, const std::vector<float>& b) {
    double same = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) same += a[i] == b[i] ? 1.0 : 0.0;
    return same / static_cast<double>(a.size());
  };
  const auto [m, u] = rounded_up(1);
  EXPECT_NEAR(agreement(m, u), 0.5, 0.01);
  EXPECT_NEAR(agreement(m, rounded_up(2).first), 0.5, 0.01);
  EXPECT_EQ(agreement(m, rounded_up(1).first), 1.0);
  const std::vector<float> shifted(m.begin() + 1, m.end());
  EXPECT_NEAR(agreement(shifted, {m.begin(), m.end() - 1}), 0.5, 0.01) << "neighbours differ";
}

double square_sum_of(const Exec& exec, const Tensor& x, double before, Accumulate accumulate) {
  const Tensor out{exec.device(), {1}, DType::f64};
  upload(exec, out.view().bytes_begin(), &before, sizeof(before));
  square_sum(exec, out, x, accumulate);
  return download_as<double>(exec, out)[0];
}

TEST_P(OptimizerStateTest, SquareSumMatchesADoubleLoop) {
  for (const std::int64_t N : {0, 1, 31, 33, 1023, 1025, 100003}) {
    const Tensor x = test::normal(exec_, {N}, DType::f32, 5);
    double want = 0.0;
    for (const float value : download_floats(exec_, x)) want += double{value} * value;
    EXPECT_NEAR(square_sum_of(exec_, x, std::nan(""), Accumulate::overwrite), want, 1e-12 * want);
    EXPECT_NEAR(square_sum_of(exec_, x, 3.0, Accumulate::add), want + 3.0, 1e-12 * want);
  }
}

TEST_P(OptimizerStateTest, SquareSumOfLargeGradientsIsFinite) {
  const Tensor x = test::from_values(exec_, {2}, DType::f32, {1e30F, 1e30F});
  EXPECT_NEAR(square_sum_of(exec_, x, 0.0, Accumulate::overwrite) / 2e60, 1.0, 1e-6);
}

Tensor upload_bytes(const Exec& exec, const void* data, std::size_t bytes, DType dtype) {
  const auto count = static_cast<std::int64_t>(bytes) / size_of(dtype);
  Tensor tensor{exec.device(), {count}, dtype};
  upload(exec, tensor.view().bytes_begin(), data, static_cast<std::int64_t>(bytes));
  exec.synchronize();
  return tensor;
}

double square_sum_of_runs(const Exec& exec, const Tensor& x, const std::vector<SumRun>& runs) {
  const SumTable table = make_sum_table(runs);
  const Tensor run_views =
      upload_bytes(exec, table.runs.data(), table.runs.size() * sizeof(SumRun), DType::u8);
  const Tensor begin = upload_bytes(exec, table.begin.data(), table.begin.size() * 4, DType::i32);
  const Tensor out{exec.device(), {1}, DType::f64};
  square_sum(exec, out, x, Accumulate::overwrite, {.runs = run_views, .begin = begin});
  return download_as<double>(exec, out)[0];
}

TEST_P(OptimizerStateTest, SquareSumOfRunsCountsEachOfTheirElementsOnce) {
  const Tensor x = test::normal(exec_, {20000}, DType::f32, 5);
  const std::vector<SumRun> runs = {{3, 1}, {8, 9000}, {9011, 77}, {12000, 4096}, {19999, 1}};
  const auto values = download_floats(exec_, x);
  double want = 0.0;
  for (const SumRun& run : runs) {
    for (std::int64_t i = run.first; i < run.first + run.count; ++i) {
      const double value{values[static_cast<std::size_t>(i)]};
      want += value * value;
    }
  }
  EXPECT_NEAR(square_sum_of_runs(exec_, x, runs), want, 1e-12 * want);
  EXPECT_EQ(square_sum_of_runs(exec_, x, {}), 0.0);
}

TEST_P(OptimizerStateTest, SquareSumOfOneRunHasTheBitsOfTheWhole) {
  const Tensor x = test::normal(exec_, {100004}, DType::f32, 5);
  EXPECT_EQ(square_sum_of_runs(exec_, x, {{0, 100004}}),
            square_sum_of(exec_, x, 0.0, Accumulate::overwrite));
}

TEST_P(OptimizerStateTest, OverflowMakesTheNormInfinite) {
  for (const auto& [flag, want] : {std::pair{0.0F, 2.0}, {-1.0F, 2.0}}) {
    const Tensor out = upload_bytes(exec_, &want, sizeof want, DType::f64);
    flag_overflow(exec_, out, test::from_values(exec_, {1}, DType::f32, {flag}));
    EXPECT_EQ(download_as<double>(exec_, out)[0], want);
  }
  for (const float flag : {1e-3F, 1.0F, std::nanf("")}) {
    const double before = 2.0;
    const Tensor out = upload_bytes(exec_, &before, sizeof before, DType::f64);
    flag_overflow(exec_, out, test::from_values(exec_, {1}, DType::f32, {flag}));
    EXPECT_TRUE(std::isinf(download_as<double>(exec_, out)[0])) << flag;
  }
}

TEST_P(OptimizerStateTest, PlanCountsTheScratchOfSquareSum) {
  const Exec real = test::make_exec(GetParam()), dry = Exec::dry(GetParam());
  const Tensor x = test::normal(real, {999}, DType::f32, 5);
  const Tensor out{real.device(), {1}, DType::f64};
  square_sum(real, out, x, Accumulate::overwrite);
  square_sum(dry, out, x, Accumulate::overwrite);
  real.synchronize();
  EXPECT_EQ(real.arena().plan().scratch, dry.arena().plan().scratch);
}

INSTANTIATE_TEST_SUITE_P(Devices, OptimizerStateTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
