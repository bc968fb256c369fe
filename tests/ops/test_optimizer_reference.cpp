#include <limits>

#include "ops/optimizer_golden.hpp"
#include "ops/optimizer_support.hpp"
#include "shoal/base/philox.hpp"

namespace shoal::ops {
namespace {

using test::good_state;
using test::kBeta1;
using test::kBeta2;

double random_gradient(int step) {
  return philox::normal(philox::block(5, philox::Purpose::test, static_cast<std::uint64_t>(step)));
}

/// Relative deviation of the reference from a loop, over 100 steps of random gradients.
template <class Loop>
double deviation_from(const OptimizerUpdate& args, Loop loop) {
  const std::vector<float> mu = test::mu_schedule(100);
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

TEST(OptimizerReference, AdamWEqualsPyTorch) {
  for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::amf}) {
    for (std::size_t i = 0; i < test::kAdamWStart.size(); ++i) {
      OptimizerScalars x{.p = test::kAdamWStart[i], .m = 0.0, .v = 0.0, .u = 0.0};
      int step = 0;
      for (const test::AdamWGolden& golden : test::kAdamWGolden) {
        for (; step < golden.steps; ++step) {
          x = optimizer_reference(test::golden_settings(kind), test::golden_state(step + 1), x,
                                  test::golden_gradient(step, i));
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

}  // namespace
}  // namespace shoal::ops
