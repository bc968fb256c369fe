#include "shoal/ops/router.hpp"

#include <limits>
#include <set>

#include "ops/both_devices.hpp"
#include "ops/router_reference.hpp"

namespace shoal::ops {
namespace {

using test::Doubles;
using test::Ints;
using test::RouterCase;

constexpr auto kSoftmax = RouterScore::softmax, kSigmoid = RouterScore::sigmoid;

Doubles to_doubles(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}
std::vector<float> to_floats(const Doubles& x) {
  return {x.begin(), x.end()};
}

struct Forward {
  Ints index;
  std::vector<float> weight, score;
};
Forward forward(const Exec& exec, const RouterCase& c, const Tensor& logits, const Tensor& bias) {
  const Tensor index = test::poisoned(exec, {c.T, c.K}, DType::i32);
  const Tensor weight = test::poisoned(exec, {c.T, c.K}, DType::f32);
  const Tensor score = test::poisoned(exec, {c.T, c.E}, DType::f32);
  router_forward(exec, {.index_TK = index,
                        .weight_TK = weight,
                        .score_TE = score,
                        .logits_TE = logits,
                        .bias_E = bias,
                        .score = c.score,
                        .normalise = c.normalise,
                        .scaling = c.scaling});
  return {download_as<std::int32_t>(exec, index), download_floats(exec, weight),
          download_floats(exec, score)};
}

class RouterTest : public test::BothDevices {
 protected:
  /// One token with these logits and no bias.
  [[nodiscard]] Forward route(const RouterCase& c, const std::vector<float>& logits) const {
    return forward(exec_, c, test::from_values(exec_, {c.T, c.E}, DType::f32, logits), Tensor{});
  }
};

TEST_P(RouterTest, ForwardMatchesDoubleLoops) {
  const std::vector<RouterCase> cases = {
      {.T = 0, .E = 8, .K = 2},
      {.T = 1, .E = 1, .K = 1},
      {.T = 3, .E = 31, .K = 31, .normalise = false, .scaling = 2.5F},
      {.T = 31, .E = 32, .K = 2},
      {.T = 33, .E = 33, .K = 7, .score = kSigmoid, .scaling = 1.5F},
      {.T = 127, .E = 64, .K = 8, .score = kSigmoid, .normalise = false},
      {.T = 61, .E = 160, .K = 6},
      {.T = 37, .E = 509, .K = 16, .score = kSigmoid},
      {.T = 65, .E = 512, .K = 16},
  };
  for (const RouterCase& c : cases) {
    SCOPED_TRACE(c.text());
    const Tensor logits = test::normal(exec_, {c.T, c.E}, DType::f32, 1);
    const Tensor bias = test::normal(exec_, {c.E}, DType::f32, 2, 0.05F);
    const Forward got = forward(exec_, c, logits, bias);
    const Doubles score = test::router_scores(c, to_doubles(download_floats(exec_, logits)));
    const Ints index = test::router_choice(c, score, to_doubles(download_floats(exec_, bias)));
    EXPECT_EQ(got.index, index);
    EXPECT_TRUE(test::all_near(got.score, to_floats(score), test::tolerance(DType::f32, c.E)));
    EXPECT_TRUE(test::all_near(got.weight, to_floats(test::router_weights(c, score, index)),
                               test::tolerance(DType::f32, c.E)));
  }
}

TEST_P(RouterTest, TiesTakeTheLowerIndex) {
  std::vector<float> logits(70, 0.5F);
  logits[40] = logits[41] = logits[69] = 1.0F;
  EXPECT_EQ(route({.T = 1, .E = 70, .K = 5}, logits).index, (Ints{40, 41, 69, 0, 1}));
}

TEST_P(RouterTest, BiasChoosesButDoesNotWeigh) {
  const RouterCase c{.T = 1, .E = 4, .K = 2, .score = kSigmoid, .normalise = false};
  const Tensor logits = test::from_values(exec_, {1, 4}, DType::f32, {2, 1, 0, -1});
  const Tensor bias = test::from_values(exec_, {4}, DType::f32, {0, 0, 0, 1});
  const Forward got = forward(exec_, c, logits, bias);
  EXPECT_EQ(got.index, (Ints{3, 0}));
  EXPECT_NEAR(got.weight[0], 1.0 / (1.0 + std::exp(1.0)), 1e-6);
}

TEST_P(RouterTest, NotANumberStillGivesDistinctExperts) {
  std::vector<float> logits(40, std::numeric_limits<float>::quiet_NaN());
  const Forward got = route({.T = 1, .E = 40, .K = 6}, logits);
  EXPECT_EQ(got.index, (Ints{0, 1, 2, 3, 4, 5}));
  logits.assign(40, 0.0F);
  logits[0] = std::numeric_limits<float>::quiet_NaN();
  const Ints index = route({.T = 1, .E = 40, .K = 40, .score = kSigmoid}, logits).index;
  EXPECT_EQ(index.back(), 0) << "a broken score ranks last";
  EXPECT_EQ(std::set<std::int32_t>(index.begin(), index.end()).size(), 40U);
}

TEST_P(RouterTest, UnderflownScoresGiveFiniteWeights) {
  const RouterCase c{.T = 1, .E = 4, .K = 2, .score = kSigmoid};
  for (const float weight : route(c, {-200, -200, -200, -200}).weight) {
    EXPECT_TRUE(std::isfinite(weight));
  }
}

struct Statistics {
  Ints count;
  std::vector<float> mean, sums;
};
Statistics statistics(const Exec& exec, const RouterCase& c, const Tensor& logits,
                      const Tensor& score, const Tensor& index) {
  const Tensor count = test::poisoned(exec, {c.S, c.E}, DType::i32);
  const Tensor mean = test::poisoned(exec, {c.S, c.E}, DType::f32);
  const Tensor entropy = test::poisoned(exec, {1}, DType::f32);
  const Tensor z = test::poisoned(exec, {1}, DType::f32);
  router_statistics(exec, {.count_SE = count,
                           .mean_score_SE = mean,
                           .entropy_sum = entropy,
                           .z_sum = z,
                           .index_TK = index,
                           .score_TE = score,
                           .logits_TE = logits,
                           .score = c.score});
  return {download_as<std::int32_t>(exec, count),
          download_floats(exec, mean),
          {download_floats(exec, entropy)[0], download_floats(exec, z)[0]}};
}

TEST_P(RouterTest, StatisticsMatchDoubleLoops) {
  const std::vector<RouterCase> cases = {
      {.T = 0, .E = 8, .K = 2},
      {.T = 1, .E = 3, .K = 1, .score = kSigmoid},
      {.T = 6, .E = 40, .K = 2, .S = 6},
      {.T = 3 * 127, .E = 33, .K = 3, .S = 3, .score = kSigmoid},
      {.T = 1021, .E = 8, .K = 2},
      {.T = 2 * 64, .E = 512, .K = 16, .S = 2},
      {.T = 2 * 65, .E = 509, .K = 5, .S = 2, .score = kSigmoid},
  };
  for (const RouterCase& c : cases) {
    SCOPED_TRACE(c.text());
    const Tensor logits = test::normal(exec_, {c.T, c.E}, DType::f32, 3, 2.0F);
    const Doubles values = to_doubles(download_floats(exec_, logits));
    const Doubles score = test::router_scores(c, values);
    const Ints index = test::router_choice(c, score, Doubles(c.E));
    const Statistics got = statistics(
        exec_, c, logits, test::from_values(exec_, {c.T, c.E}, DType::f32, to_floats(score)),
        test::from_ints(exec_, {c.T, c.K}, index));
    const test::RouterSums want = test::router_sums(c, values, index);
    const test::Tolerance tolerance = test::tolerance(DType::f32, c.T);
    EXPECT_EQ(got.count, want.count);
    EXPECT_TRUE(test::all_near(got.mean, to_floats(want.mean), tolerance));
    EXPECT_TRUE(test::all_near(got.sums, to_floats(Doubles{want.entropy, want.z}), tolerance));
  }
}

TEST_P(RouterTest, PlanCountsTheScratchOfStatistics) {
  const Exec real = test::make_exec(GetParam()), dry = Exec::dry(GetParam());
  const RouterCase c{.T = 300, .E = 40, .K = 2, .S = 2};
  const Tensor logits = test::normal(real, {c.T, c.E}, DType::f32, 3);
  const Tensor index = test::from_ints(real, {c.T, c.K}, Ints(600));
  const Tensor count = test::poisoned(real, {c.S, c.E}, DType::i32);
  const Tensor mean = test::poisoned(real, {c.S, c.E}, DType::f32);
  const Tensor sums = test::poisoned(real, {1}, DType::f32);
  for (const Exec* exec : {&real, &dry}) {
    router_statistics(*exec, {.count_SE = count,
                              .mean_score_SE = mean,
                              .entropy_sum = sums,
                              .z_sum = sums,
                              .index_TK = index,
                              .score_TE = logits,
                              .logits_TE = logits});
  }
  real.synchronize();
  EXPECT_GT(real.arena().plan().scratch, 0);
  EXPECT_EQ(real.arena().plan().scratch, dry.arena().plan().scratch);
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

TEST_P(RouterTest, BackwardMatchesFiniteDifferences) {
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

TEST_P(RouterTest, BackwardMatchesFiniteDifferencesOverManyExperts) {
  expect_gradient(exec_, {.T = 2, .E = 31, .K = 3}, 0.5, 0.1);
  expect_gradient(exec_, {.T = 2, .E = 33, .K = 8, .S = 2, .score = kSigmoid}, 0.5, 0.1);
  expect_gradient(exec_, {.T = 1, .E = 300, .K = 16}, 0.5, 0.1);
}

TEST_P(RouterTest, BackwardOfNoTokensDoesNothing) {
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

TEST_P(RouterTest, BiasMovesTowardsTheMeanCount) {
  const std::vector<float> want = {-0.25F, 0.0F, 0.25F, 0.0F};
  EXPECT_EQ(updated_bias(exec_, {7, 5, 3, 5}, Tensor{}), want);
  EXPECT_EQ(updated_bias(exec_, {7, 5, 3, 5}, test::from_ints(exec_, {1}, {0})), want);
}

TEST_P(RouterTest, BalancedBiasStaysAtCountsThatFp32SumsRound) {
  EXPECT_EQ(updated_bias(exec_, std::vector<float>(300, 16777213.0F), Tensor{}),
            std::vector<float>(300, 0.0F));
}

TEST_P(RouterTest, SkippedStepLeavesTheBias) {
  EXPECT_EQ(updated_bias(exec_, {7, 5, 3, 5}, test::from_ints(exec_, {1}, {1})),
            std::vector<float>(4, 0.0F));
}

TEST_P(RouterTest, RejectsMoreChosenThanExperts) {
  EXPECT_THROW(route({.T = 1, .E = 4, .K = 5}, {0, 0, 0, 0}), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
