#include "shoal/ops/optimizer.hpp"

#include <limits>

#include "ops/optimizer_golden.hpp"
#include "ops/optimizer_support.hpp"
#include "shoal/base/philox.hpp"

namespace shoal::ops {
namespace {

using test::good_state;
using test::kAllKinds;
using test::Parameters;

constexpr double kBeta1 = 0.9, kBeta2 = 0.95;

/// mu of each step: linear from 0.9 to 0.99 over the first half.
std::vector<float> mu_schedule(int steps) {
  std::vector<float> mu;
  for (int i = 0; i < steps; ++i) {
    mu.push_back(static_cast<float>(0.9 + 0.09 * std::min(1.0, 2.0 * i / steps)));
  }
  return mu;
}
double random_gradient(int step) {
  return philox::normal(philox::block(5, philox::Purpose::test, static_cast<std::uint64_t>(step)));
}

/// Relative deviation of the reference from a loop, over 100 steps of random gradients.
template <class Loop>
double deviation_from(const OptimizerUpdate& args, Loop loop) {
  const std::vector<float> mu = mu_schedule(100);
  OptimizerScalars x{.p = 0.7, .m = 0.0, .v = 0.0, .u = 0.0};
  double worst = 0.0;
  for (int t = 1; t <= 100; ++t) {
    const StepState state = good_state(t, mu, args.beta1, args.beta2, 0x1p-7F);
    x = optimizer_reference(args, state, x, random_gradient(t));
    const double p = loop(t, random_gradient(t), double{state.mu}, double{state.lr});
    worst = std::max(worst, std::abs(x.p - p) / std::abs(p));
  }
  return worst;
}

TEST(OptimizerReference, AmfIsTheDesignsLoop) {
  const double eps = 1e-8F, nu = 0.25, wd = 0.125;
  double m = 0, v = 0, u = 0, p = 0.7, mu_product = 1;
  const auto loop = [&](int t, double g, double mu, double lr) {
    m = kBeta1 * m + (1 - kBeta1) * g;
    v = kBeta2 * v + (1 - kBeta2) * g * g;
    const double m_hat = m / (1 - std::pow(kBeta1, t)), v_hat = v / (1 - std::pow(kBeta2, t));
    const double d = m_hat / (std::sqrt(v_hat) + eps);
    u = mu * u + (1 - mu) * d;
    mu_product *= mu;
    const double u_hat = u / (1 - mu_product);
    return p -= lr * ((1 - nu) * d + nu * u_hat + wd * p);
  };
  const OptimizerUpdate args{.kind = OptimizerKind::amf, .nu = 0.25F, .weight_decay = 0.125F};
  EXPECT_LT(deviation_from(args, loop), 1e-12);
}

TEST(OptimizerReference, AmfClassicIsThePublishedListing) {
  const double eps = 1e-8F;
  double m = 0, v = 0, buf = 0, p = 0.7;
  const auto loop = [&](int, double g, double mu, double lr) {
    m = kBeta1 * m + (1 - kBeta1) * g;
    v = kBeta2 * v + (1 - kBeta2) * g * g;
    const double d = std::sqrt(v) + eps;
    buf = mu * buf + lr * m / d;
    return p -= buf;
  };
  // The listing has no weight decay: ours must not reach it either.
  const OptimizerUpdate args{.kind = OptimizerKind::amf_classic, .weight_decay = 0.125F};
  EXPECT_LT(deviation_from(args, loop), 1e-12);
}

TEST(OptimizerReference, AmfNesterovIsTheDesignsLoop) {
  const double eps = 1e-8F, wd = 0.125;
  double v = 0, u = 0, p = 0.7;
  const auto loop = [&](int t, double g, double mu, double lr) {
    v = kBeta2 * v + (1 - kBeta2) * g * g;
    const double h = g / (std::sqrt(v / (1 - std::pow(kBeta2, t))) + eps);
    u = mu * u + (1 - mu) * h;
    return p -= lr * (mu * u + (1 - mu) * h + wd * p);
  };
  const OptimizerUpdate args{.kind = OptimizerKind::amf_nesterov, .weight_decay = 0.125F};
  EXPECT_LT(deviation_from(args, loop), 1e-12);
}

TEST(OptimizerReference, SgdIsHeavyBallWithDecoupledDecay) {
  double u = 0, p = 0.7;
  const auto loop = [&](int, double g, double mu, double lr) {
    u = mu * u + g;
    return p -= lr * (u + 0.125 * p);
  };
  const OptimizerUpdate args{.kind = OptimizerKind::sgd, .weight_decay = 0.125F};
  EXPECT_LT(deviation_from(args, loop), 1e-12);
}

/// Settings and gradients of the golden file.
OptimizerUpdate golden_settings(OptimizerKind kind) {
  return {.kind = kind,
          .beta1 = 0.875,
          .beta2 = 0.96875,
          .eps = 0x1p-20F,
          .nu = 0.0F,
          .weight_decay = 0.125F};
}
double golden_gradient(int step, std::size_t i) {
  return ((step * 7 + static_cast<int>(i) * 13) % 17 - 8) / 16.0;
}
StepState golden_state(int step) {
  return good_state(step, std::vector<float>(100, 0.5F), 0.875, 0.96875, 0x1p-8F);
}

TEST(OptimizerReference, AdamWEqualsPyTorch) {
  for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::amf}) {
    for (std::size_t i = 0; i < test::kAdamWStart.size(); ++i) {
      OptimizerScalars x{.p = test::kAdamWStart[i], .m = 0.0, .v = 0.0, .u = 0.0};
      int step = 0;
      for (const test::AdamWGolden& golden : test::kAdamWGolden) {
        for (; step < golden.steps; ++step) {
          x = optimizer_reference(golden_settings(kind), golden_state(step + 1), x,
                                  golden_gradient(step, i));
        }
        EXPECT_NEAR(x.p / golden.p[i], 1.0, 1e-13) << "step " << step << " element " << i;
      }
    }
  }
}

/// How a quadratic with frozen preconditioner (v = 1, beta2 = 1) and curvature one develops: the
/// largest |p| of the second half of the steps over that of the first.
double growth(double beta1, float mu, double effective_lr) {
  const OptimizerUpdate args{
      .kind = OptimizerKind::amf_classic, .beta1 = beta1, .beta2 = 1.0, .eps = 0.0F};
  const StepState state{
      .lr = static_cast<float>(effective_lr * (1.0 - double{mu})), .mu = mu, .grad_factor = 1.0F};
  OptimizerScalars x{.p = 1.0, .m = 0.0, .v = 1.0, .u = 0.0};
  double early = 0.0, late = 0.0;
  constexpr int kSteps = 20000;
  for (int t = 0; t < kSteps; ++t) {
    x = optimizer_reference(args, state, x, x.p);
    if (std::abs(x.p) > 1e100) return std::numeric_limits<double>::infinity();
    double& largest = t < kSteps / 2 ? early : late;
    if (t > kSteps / 4) largest = std::max(largest, std::abs(x.p));
  }
  return late / early;
}

TEST(OptimizerReference, StabilityLimitOfAmfClassicIsThatOfItsPolynomial) {
  // (z - 1)(z - mu)(z - b1) + lr h (1 - b1) z^2, lr in units of lr / (1 - mu).
  for (const auto& [beta1, mu] : {std::pair{0.9, 0.9F}, {0.9, 0.5F}, {0.5, 0.9F}, {0.0, 0.9F}}) {
    const double real_root = 2.0 * (1.0 + mu) * (1.0 + beta1) / ((1.0 - beta1) * (1.0 - mu));
    const double complex_pair = beta1 > 0.0 ? (1.0 - mu * beta1) / (mu * beta1) : real_root;
    const double limit = std::min(real_root, complex_pair);
    EXPECT_LT(growth(beta1, mu, 0.99 * limit), 1.0) << beta1 << " " << mu;
    EXPECT_GT(growth(beta1, mu, 1.01 * limit), 1.0) << beta1 << " " << mu;
  }
}

class OptimizerTest : public test::BothDevices {};

/// Reference values of all parameters of a set after `steps` updates.
std::vector<OptimizerScalars> reference_of(const Exec& exec, const Parameters& p) {
  const auto w = p.weights(exec), m = download_floats(exec, p.m), v = download_floats(exec, p.v),
             u = download_floats(exec, p.u);
  std::vector<OptimizerScalars> out;
  for (std::size_t i = 0; i < w.size(); ++i) out.push_back({w[i], m[i], v[i], u[i]});
  return out;
}

void expect_follows_reference(const Exec& exec, std::int64_t N, const OptimizerUpdate& args,
                              DType dtype, DType moments) {
  SCOPED_TRACE(test::name(args.kind) + " N" + std::to_string(N) + " " + std::string{name(dtype)} +
               " moments " + std::string{name(moments)});
  const Parameters p{exec, N, dtype, moments};
  // The rounding of bf16 moments is random: one step shows the formula, more would drift apart.
  const int steps = moments == DType::bf16 ? 1 : 8;
  std::vector<OptimizerScalars> want = reference_of(exec, p);
  for (int t = 1; t <= steps; ++t) {
    StepState state = good_state(t, mu_schedule(10), kBeta1, kBeta2, 0.01F);
    state.grad_factor = 0.75F;
    const Tensor grad = test::normal(exec, {N}, DType::f32, 30 + t);
    p.update(exec, args, grad, state);
    const auto g = download_floats(exec, grad);
    for (std::size_t i = 0; i < want.size(); ++i) {
      want[i] = optimizer_reference(args, state, want[i], g[i]);
    }
  }
  const auto pick = [&](double OptimizerScalars::*field) {
    std::vector<float> out;
    for (const OptimizerScalars& x : want) out.push_back(static_cast<float>(x.*field));
    return out;
  };
  const test::Tolerance exact{.relative = 3e-6, .global = 1e-6};
  const test::Tolerance rounded{.relative = 0x1p-7, .global = 0x1p-7};
  const test::Tolerance& state_tolerance = moments == DType::bf16 ? rounded : exact;
  EXPECT_TRUE(test::all_near(p.weights(exec), pick(&OptimizerScalars::p), exact));
  EXPECT_TRUE(test::all_near(download_floats(exec, p.value), pick(&OptimizerScalars::p),
                             test::tolerance(dtype)));
  EXPECT_TRUE(
      test::all_near(download_floats(exec, p.m), pick(&OptimizerScalars::m), state_tolerance));
  EXPECT_TRUE(test::all_near(download_floats(exec, p.v), pick(&OptimizerScalars::v), exact));
  EXPECT_TRUE(
      test::all_near(download_floats(exec, p.u), pick(&OptimizerScalars::u), state_tolerance));
}

TEST_P(OptimizerTest, UpdateFollowsTheReference) {
  for (const OptimizerKind kind : kAllKinds) {
    const OptimizerUpdate args{.kind = kind, .nu = 0.25F, .weight_decay = 0.1F};
    for (const std::int64_t N : {0, 1, 3, 31, 1027}) {
      expect_follows_reference(exec_, N, args, DType::f32, DType::f32);
    }
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      expect_follows_reference(exec_, 521, args, dtype, DType::f32);
      expect_follows_reference(exec_, 521, args, dtype, DType::bf16);
    }
  }
}

TEST_P(OptimizerTest, AdamWEqualsPyTorchToRounding) {
  const std::vector<float> start(test::kAdamWStart.begin(), test::kAdamWStart.end());
  const Parameters p{exec_, 5, DType::f32, DType::f32, true};
  upload_values(exec_, p.value, start);
  int step = 0;
  for (const test::AdamWGolden& golden : test::kAdamWGolden) {
    for (; step < golden.steps; ++step) {
      std::vector<float> g;
      for (std::size_t i = 0; i < 5; ++i) g.push_back(static_cast<float>(golden_gradient(step, i)));
      p.update(exec_, golden_settings(OptimizerKind::adamw),
               test::from_values(exec_, {5}, DType::f32, g), golden_state(step + 1));
    }
    EXPECT_TRUE(test::all_near(p.weights(exec_), {golden.p.begin(), golden.p.end()},
                               {.relative = 2e-6, .global = 1e-6}));
  }
}

TEST_P(OptimizerTest, AmfWithoutItsSecondFilterIsAdamWBitForBit) {
  for (const DType moments : {DType::f32, DType::bf16}) {
    const Parameters amf{exec_, 1027, DType::bf16, moments},
        adamw{exec_, 1027, DType::bf16, moments};
    const auto u = download_floats(exec_, amf.u);
    for (int t = 1; t <= 60; ++t) {
      const StepState state = good_state(t, mu_schedule(60), kBeta1, kBeta2, 0.003F);
      const Tensor grad = test::normal(exec_, {1027}, DType::f32, 50 + t);
      amf.update(exec_, {.kind = OptimizerKind::amf, .nu = 0.0F, .weight_decay = 0.1F}, grad,
                 state);
      adamw.update(exec_, {.kind = OptimizerKind::adamw, .weight_decay = 0.1F}, grad, state);
    }
    EXPECT_TRUE(test::all_equal(amf.weights(exec_), adamw.weights(exec_)));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, amf.m), download_floats(exec_, adamw.m)));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, amf.v), download_floats(exec_, adamw.v)));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, amf.u), u)) << "u must not be written";
  }
}

TEST_P(OptimizerTest, AmfWithoutItsSecondFilterNeedsNoU) {
  const Parameters p{exec_, 8, DType::f32, DType::f32};
  const Tensor grad = test::normal(exec_, {8}, DType::f32, 1);
  const Tensor state =
      test::upload_state(exec_, good_state(1, mu_schedule(1), kBeta1, kBeta2, 0.1F));
  OptimizerUpdate args{.value = p.value, .grad = grad, .m = p.m, .v = p.v, .state = state};
  EXPECT_THROW(optimizer_update(exec_, args), Error) << "with nu > 0, u is missing";
  args.nu = 0.0F;
  EXPECT_NO_THROW(optimizer_update(exec_, args));
  exec_.synchronize();
}

TEST_P(OptimizerTest, SkipLeavesEverythingUntouched) {
  for (const OptimizerKind kind : kAllKinds) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Parameters p{exec_, 67, dtype, DType::bf16}, before{exec_, 67, dtype, DType::bf16};
      StepState state = good_state(3, mu_schedule(3), kBeta1, kBeta2, 0.1F);
      state.skip = 1;
      p.update(exec_, {.kind = kind},
               test::from_values(exec_, {67}, DType::f32, std::vector<float>(67, NAN)), state);
      const auto same = [&](const Tensor& a, const Tensor& b) {
        return test::all_equal(download_floats(exec_, a), download_floats(exec_, b));
      };
      EXPECT_TRUE(same(p.value, before.value) && same(p.master, before.master));
      EXPECT_TRUE(same(p.m, before.m) && same(p.v, before.v) && same(p.u, before.u));
      EXPECT_TRUE(dtype != DType::bf16 || same(p.low, before.low));
    }
  }
}

/// Views of elements [begin, begin + count) of a parameter set.
OptimizerUpdate part_of(const Parameters& p, const Tensor& grad, std::int64_t begin,
                        std::int64_t count) {
  return {.value = p.value.view().rows(begin, count),
          .low = p.low.view().rows(begin, count),
          .grad = grad.view().rows(begin, count),
          .m = p.m.view().rows(begin, count),
          .v = p.v.view().rows(begin, count),
          .u = p.u.view().rows(begin, count),
          .first = (std::int64_t{1} << 40) + begin};
}

TEST_P(OptimizerTest, AnySplitGivesTheSameBits) {
  const Parameters whole{exec_, 1000, DType::bf16, DType::bf16},
      split{exec_, 1000, DType::bf16, DType::bf16};
  const Tensor grad = test::normal(exec_, {1000}, DType::f32, 61);
  const Tensor state =
      test::upload_state(exec_, good_state(1, mu_schedule(1), kBeta1, kBeta2, 0.1F));
  const auto update = [&](OptimizerUpdate part) {
    part.state = state;
    optimizer_update(exec_, part);
  };
  update(part_of(whole, grad, 0, 1000));
  for (const auto& [begin, count] : {std::pair{0, 3}, {3, 1}, {4, 333}, {337, 663}}) {
    update(part_of(split, grad, begin, count));
  }
  EXPECT_TRUE(test::all_equal(whole.weights(exec_), split.weights(exec_)));
  EXPECT_TRUE(test::all_equal(download_floats(exec_, whole.m), download_floats(exec_, split.m)));
  EXPECT_TRUE(test::all_equal(download_floats(exec_, whole.u), download_floats(exec_, split.u)));
}

TEST_P(OptimizerTest, RejectsMissingCompanionsAndMixedMoments) {
  const Parameters p{exec_, 8, DType::bf16, DType::f32};
  const Tensor grad = test::normal(exec_, {8}, DType::f32, 1);
  const Tensor state = test::upload_state(exec_, {});
  OptimizerUpdate args = part_of(p, grad, 0, 8);
  args.state = state;
  args.low = {};
  EXPECT_THROW(optimizer_update(exec_, args), Error);
  args.low = p.low;
  const Tensor bf16 = test::normal(exec_, {8}, DType::bf16, 2);
  args.m = bf16;
  EXPECT_THROW(optimizer_update(exec_, args), Error);
}

TEST(OptimizerCuda, EqualsTheCpuBitForBit) {
  if (!test::cuda_available()) GTEST_SKIP() << "no CUDA device on this host";
  const Exec cpu = test::make_exec(DeviceKind::cpu), gpu = test::make_exec(DeviceKind::cuda);
  for (const OptimizerKind kind : kAllKinds) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(test::name(kind) + " " + std::string{name(dtype)});
      const Parameters a{cpu, 4099, dtype, DType::bf16}, b{gpu, 4099, dtype, DType::bf16};
      for (int t = 1; t <= 20; ++t) {
        const StepState state = good_state(t, mu_schedule(20), kBeta1, kBeta2, 0.01F);
        const OptimizerUpdate args{.kind = kind, .weight_decay = 0.1F};
        a.update(cpu, args, test::normal(cpu, {4099}, DType::f32, 70 + t), state);
        b.update(gpu, args, test::normal(gpu, {4099}, DType::f32, 70 + t), state);
      }
      EXPECT_TRUE(test::all_equal(a.weights(cpu), b.weights(gpu)));
      EXPECT_TRUE(test::all_equal(download_floats(cpu, a.u), download_floats(gpu, b.u)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, OptimizerTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
