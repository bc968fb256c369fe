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

constexpr auto kSigmoid = RouterScore::sigmoid;

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
Forward forward(const Exec& exec, const RouterCase& c, const Tensor& logits, const Tensor& bias,
                const RouterChunkSums& chunks = {}) {
  const Tensor index = test::poisoned(exec, {c.T, c.K}, DType::i32);
  const Tensor weight = test::poisoned(exec, {c.T, c.K}, DType::f32);
  const Tensor score = test::poisoned(exec, {c.T, c.E}, DType::f32);
  router_forward(exec, {.index_TK = index,
                        .weight_TK = weight,
                        .score_TE = score,
                        .logits_TE = logits,
                        .bias_E = bias,
                        .chunks = chunks,
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
      {.T = 257, .E = 3, .K = 1},
      {.T = 131, .E = 8, .K = 8},
      {.T = 65, .E = 16, .K = 5, .score = kSigmoid},
      {.T = 129, .E = 64, .K = 64},
      {.T = 67, .E = 128, .K = 3, .normalise = false},
      {.T = 35, .E = 256, .K = 4, .score = kSigmoid},
      {.T = 9, .E = 512, .K = 512},
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
                      const Tensor& score, const Tensor& index,
                      const RouterChunkSums& chunks = {}) {
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
                           .chunks = chunks,
                           .score = c.score});
  return {download_as<std::int32_t>(exec, count),
          download_floats(exec, mean),
          {download_floats(exec, entropy)[0], download_floats(exec, z)[0]}};
}

std::vector<RouterCase> statistics_cases() {
  return {
      {.T = 0, .E = 8, .K = 2},
      {.T = 1, .E = 3, .K = 1, .score = kSigmoid},
      {.T = 6, .E = 40, .K = 2, .S = 6},
      {.T = 3 * 127, .E = 33, .K = 3, .S = 3, .score = kSigmoid},
      {.T = 1021, .E = 8, .K = 2},
      {.T = 2 * 131, .E = 64, .K = 8, .S = 2},
      {.T = 191, .E = 128, .K = 7, .score = kSigmoid},
      {.T = 3 * 70, .E = 256, .K = 8, .S = 3},
      {.T = 2 * 64, .E = 512, .K = 16, .S = 2},
      {.T = 2 * 65, .E = 509, .K = 5, .S = 2, .score = kSigmoid},
  };
}

TEST_P(RouterTest, StatisticsMatchDoubleLoops) {
  for (const RouterCase& c : statistics_cases()) {
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

TEST_P(RouterTest, StatisticsThatForwardBegunMatchDoubleLoops) {
  for (const RouterCase& c : statistics_cases()) {
    SCOPED_TRACE(c.text());
    const ScratchScope scope{exec_};
    const RouterChunkSums chunks = scratch_router_chunks(exec_, c.S, c.T, c.E);
    const Tensor logits = test::normal(exec_, {c.T, c.E}, DType::f32, 4, 2.0F);
    const Forward routed = forward(exec_, c, logits, Tensor{}, chunks);
    const Doubles values = to_doubles(download_floats(exec_, logits));
    const Ints index = test::router_choice(c, test::router_scores(c, values), Doubles(c.E));
    const test::RouterSums want = test::router_sums(c, values, index);
    const Tensor unread_TE = test::poisoned(exec_, {c.T, c.E}, DType::f32);
    const Statistics got = statistics(exec_, c, unread_TE, unread_TE,
                                      test::poisoned(exec_, {c.T, c.K}, DType::i32), chunks);
    const test::Tolerance tolerance = test::tolerance(DType::f32, c.T);
    EXPECT_EQ(routed.index, index);
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

TEST_P(RouterTest, RejectsMoreChosenThanExperts) {
  EXPECT_THROW(route({.T = 1, .E = 4, .K = 5}, {0, 0, 0, 0}), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
