#include "shoal/ops/cross_entropy.hpp"

#include <cmath>
#include <limits>

#include "ops/parity.hpp"
#include "support/finite_difference.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

struct Size {
  std::int64_t T, V;
};

struct Result {
  Values loss, logits;
};
/// Token t has target 7t mod V; every third token is masked. grad_scale 0 stands for none.
Result run(const Exec& exec, DType elem, Size s, const Values& logits, float grad_scale) {
  std::vector<std::int32_t> target;
  std::vector<std::uint8_t> mask;
  for (std::int64_t t = 0; t < s.T; ++t) {
    target.push_back(static_cast<std::int32_t>(7 * t % s.V));
    mask.push_back(t % 3 != 2);
  }
  const Tensor loss = test::poisoned(exec, {s.T}, DType::f32);
  const Tensor logits_TV = test::from_values(exec, {s.T, s.V}, elem, logits);
  const Tensor target_T = test::from_ints(exec, {s.T}, target);
  const Tensor mask_T{exec.device(), {s.T}, DType::u8};
  upload(exec, mask_T.view().bytes_begin(), mask.data(), s.T);
  const Tensor scale =
      grad_scale == 0.0F ? Tensor{} : test::from_values(exec, {1}, DType::f32, {grad_scale});
  cross_entropy(exec, {.loss_T = loss,
                       .logits_TV = logits_TV,
                       .target_T = target_T,
                       .mask_T = mask_T,
                       .grad_scale = scale});
  return {download_floats(exec, loss), download_floats(exec, logits_TV)};
}

TEST(CrossEntropy, MatchesTheFormula) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Values x = values(5 * 37, 1, DType::f32, 5.0F);
  Values want;
  for (std::size_t t = 0; t < 5; ++t) {
    double sum = 0.0;
    for (std::size_t v = 0; v < 37; ++v) sum += std::exp(double{x[t * 37 + v]});
    want.push_back(t == 2 ? 0.0F : static_cast<float>(std::log(sum) - x[t * 37 + 7 * t % 37]));
  }
  const Result got = run(exec, DType::f32, {5, 37}, x, 0.0F);
  EXPECT_TRUE(test::all_near(got.loss, want, test::tolerance(DType::f32)));
  EXPECT_TRUE(test::all_equal(got.logits, x));  // no gradient was asked for
}

TEST(CrossEntropy, WritesTheGradientInPlace) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  const Size s{4, 9};
  const Values x = values(36, 1);
  const auto loss = [&](const Values& v) {
    return test::weighted_sum(run(exec, DType::f32, s, v, 0.0F).loss, Values(4, 0.25F));
  };
  const Result got = run(exec, DType::f32, s, x, 0.25F);
  EXPECT_TRUE(test::gradient_matches(loss, x, got.logits));
  EXPECT_TRUE(test::all_equal(got.loss, run(exec, DType::f32, s, x, 0.0F).loss));
}

using CrossEntropyParity = test::Parity;

TEST_P(CrossEntropyParity, MatchesTheCpuInFp32) {
  for (const Size s : {Size{0, 8},
                       {1, 1},
                       {4, 31},
                       {3, 32},
                       {5, 33},
                       {7, 512},
                       {2, 4097},
                       {300, 65},
                       {4, 32000},
                       {2, 50304},
                       {2, 50311},
                       {1, 131072}}) {
    SCOPED_TRACE("T " + std::to_string(s.T) + " V " + std::to_string(s.V));
    const Values x = values(s.T * s.V, 1, dtype_, 3.0F);
    const Result want = run(oracle_, DType::f32, s, x, 0.5F);
    const Result got = run(exec_, dtype_, s, x, 0.5F);
    EXPECT_TRUE(test::all_near(got.loss, want.loss, test::tolerance(DType::f32, s.V)));
    EXPECT_TRUE(test::all_near(got.logits, want.logits, test::tolerance(dtype_, s.V)));
  }
}

TEST_P(CrossEntropyParity, HandlesExtremeLogits) {
  // Far beyond what exp can hold, and columns that are switched off.
  const float off = -std::numeric_limits<float>::infinity();
  Values x = {20000.0F, -20000.0F, 20000.0F, off, off};
  x.resize(40, off);
  const Result got = run(exec_, dtype_, {1, 40}, x, 1.0F);
  Values gradient(40, 0.0F);
  gradient[0] = -0.5F;
  gradient[2] = 0.5F;
  EXPECT_NEAR(got.loss.at(0), std::log(2.0), 1e-6);
  EXPECT_TRUE(test::all_near(got.logits, gradient, test::tolerance(dtype_)));
}

INSTANTIATE_TEST_SUITE_P(Variants, CrossEntropyParity, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
