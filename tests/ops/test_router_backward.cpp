#include "ops/both_devices.hpp"
#include "ops/router_reference.hpp"
#include "shoal/ops/router.hpp"

namespace shoal::ops {
namespace {

using test::Doubles;
using test::Ints;
using test::RouterCase;

constexpr auto kSoftmax = RouterScore::softmax, kSigmoid = RouterScore::sigmoid;

using RouterBackwardTest = test::BothDevices;

Doubles to_doubles(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}
std::vector<float> to_floats(const Doubles& x) {
  return {x.begin(), x.end()};
}

std::vector<float> backward(const Exec& exec, const test::RouterLoss& loss, const Doubles& logits) {
  const RouterCase& c = loss.c;
  const Shape TE{c.T, c.E}, TK{c.T, c.K};
  const auto upload = [&](Shape shape, const Doubles& values) {
    return test::from_values(exec, shape, DType::f32, to_floats(values));
  };
  const Doubles score = test::router_scores(c, logits);
  const Tensor dlogits = test::poisoned(exec, TE, DType::f32);
  const Tensor dweight = upload(TK, loss.dweight), score_TE = upload(TE, score);
  const Tensor weight = upload(TK, test::router_weights(c, score, loss.index));
  const Tensor index = test::from_ints(exec, TK, loss.index), logits_TE = upload(TE, logits);
  const Tensor count = test::from_ints(exec, {c.S, c.E}, loss.count);
  const Tensor aux = loss.aux_scale == 0.0 ? Tensor{} : upload({1}, {loss.aux_scale});
  const Tensor z = loss.z_scale == 0.0 ? Tensor{} : upload({1}, {loss.z_scale});
  router_backward(exec, {.dlogits_TE = dlogits,
                         .dweight_TK = dweight,
                         .index_TK = index,
                         .weight_TK = weight,
                         .score_TE = score_TE,
                         .logits_TE = logits_TE,
                         .count_SE = count,
                         .aux_scale = aux,
                         .z_scale = z,
                         .score = c.score,
                         .normalise = c.normalise,
                         .scaling = c.scaling});
  return download_floats(exec, dlogits);
}

/// Central differences in double precision of the double reference.
std::vector<float> differences(const test::RouterLoss& loss, Doubles logits) {
  constexpr double kStep = 1e-5;
  std::vector<float> out;
  for (double& x : logits) {
    const double at = x;
    x = at + kStep;
    const double above = loss(logits);
    x = at - kStep;
    const double below = loss(logits);
    x = at;
    out.push_back(static_cast<float>((above - below) / (2.0 * kStep)));
  }
  return out;
}

void expect_gradient(const Exec& exec, const RouterCase& c, double aux_scale, double z_scale) {
  SCOPED_TRACE(c.text() + " aux " + std::to_string(aux_scale) + " z " + std::to_string(z_scale));
  const Tensor drawn = test::normal(exec, {c.T, c.E}, DType::f32, 5);
  const Doubles logits = to_doubles(download_floats(exec, drawn));
  const Ints index = test::router_choice(c, test::router_scores(c, logits), Doubles(c.E));
  const Tensor dweight = test::normal(exec, {c.T, c.K}, DType::f32, 6);
  const test::RouterLoss loss{.c = c,
                              .index = index,
                              .count = test::router_sums(c, logits, index).count,
                              .dweight = to_doubles(download_floats(exec, dweight)),
                              .aux_scale = aux_scale,
                              .z_scale = z_scale};
  const std::vector<float> got = backward(exec, loss, logits), want = differences(loss, logits);
  if (c.K == 1 && c.normalise && aux_scale == 0.0 && z_scale == 0.0) {
    for (const float x : got) EXPECT_NEAR(x, 0.0, 1e-6) << "the only weight is constant";
    return;
  }
  EXPECT_TRUE(test::all_near(got, want, {.relative = 2e-5, .global = 5e-6}));
}

TEST_P(RouterBackwardTest, BackwardMatchesFiniteDifferences) {
  for (const RouterScore score : {kSoftmax, kSigmoid}) {
    for (const bool normalise : {false, true}) {
      for (std::int64_t K = 1; K <= 5; ++K) {
        const RouterCase c{.T = 6,
                           .E = 5,
                           .K = K,
                           .S = 2,
                           .score = score,
                           .normalise = normalise,
                           .scaling = 1.5F};
        expect_gradient(exec_, c, 0.0, 0.0);
        expect_gradient(exec_, c, 0.7, 0.0);
        expect_gradient(exec_, c, 0.7, 0.3);
      }
    }
  }
}

TEST_P(RouterBackwardTest, BackwardMatchesFiniteDifferencesOverManyExperts) {
  expect_gradient(exec_, {.T = 2, .E = 31, .K = 3}, 0.5, 0.1);
  expect_gradient(exec_, {.T = 2, .E = 33, .K = 8, .S = 2, .score = kSigmoid}, 0.5, 0.1);
  expect_gradient(exec_, {.T = 1, .E = 300, .K = 16}, 0.5, 0.1);
  expect_gradient(exec_, {.T = 67, .E = 16, .K = 4}, 0.5, 0.1);
  expect_gradient(exec_, {.T = 9, .E = 64, .K = 8, .S = 3, .score = kSigmoid}, 0.5, 0.1);
  expect_gradient(exec_, {.T = 3, .E = 128, .K = 2}, 0.5, 0.0);
}

TEST_P(RouterBackwardTest, BackwardOfNoTokensDoesNothing) {
  EXPECT_TRUE(
      backward(exec_, {.c = {.T = 0, .E = 4, .K = 2}, .index = {}, .count = Ints(4), .dweight = {}},
               {})
          .empty());
}

std::vector<float> updated_bias(const Exec& exec, const std::vector<float>& counts, Tensor skip) {
  const auto E = static_cast<std::int64_t>(counts.size());
  const Tensor bias = test::from_values(exec, {E}, DType::f32, std::vector<float>(counts.size()));
  const Tensor count = test::from_values(exec, {E}, DType::f32, counts);
  router_bias_update(exec, {.bias_E = bias, .count_E = count, .skip = skip, .rate = 0.25F});
  return download_floats(exec, bias);
}

TEST_P(RouterBackwardTest, BiasMovesTowardsTheMeanCount) {
  const std::vector<float> want = {-0.25F, 0.0F, 0.25F, 0.0F};
  EXPECT_EQ(updated_bias(exec_, {7, 5, 3, 5}, Tensor{}), want);
  EXPECT_EQ(updated_bias(exec_, {7, 5, 3, 5}, test::from_ints(exec_, {1}, {0})), want);
}

TEST_P(RouterBackwardTest, BalancedBiasStaysAtCountsThatFp32SumsRound) {
  EXPECT_EQ(updated_bias(exec_, std::vector<float>(300, 16777213.0F), Tensor{}),
            std::vector<float>(300, 0.0F));
}

TEST_P(RouterBackwardTest, SkippedStepLeavesTheBias) {
  EXPECT_EQ(updated_bias(exec_, {7, 5, 3, 5}, test::from_ints(exec_, {1}, {1})),
            std::vector<float>(4, 0.0F));
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterBackwardTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
