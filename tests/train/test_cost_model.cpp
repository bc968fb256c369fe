#include "shoal/train/cost_model.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "shoal/train/calibration.hpp"
#include "train/measure_time.hpp"
#include "train/network_cost.hpp"
#include "train/planned_run.hpp"

namespace shoal::train {
namespace {

/// Eight layers, one dense and seven of experts; a step of 64 sequences of 128 tokens.
RunConfig eight_layers() {
  RunConfig c = test::planned_run({.vocabulary = 1024,
                                   .hidden = 256,
                                   .layers = 8,
                                   .heads = 8,
                                   .groups = 4,
                                   .head_dim = 32,
                                   .experts = 16,
                                   .per_token = 4,
                                   .expert_width = 128,
                                   .sequence = 128,
                                   .batch = 64});
  c.model.intermediate_size = 512;
  c.model.first_k_dense_replace = 1;
  c.training.micro_batch_size = 2;
  return c;
}

constexpr double kTokens = 2.0 * 128.0;
constexpr double kWhole = kTokens * 256.0 * 2.0;  // bytes of a micro-batch's activations, bf16

TEST(CostModel, DestinationsOfATokenFollowTheClosedForm) {
  EXPECT_DOUBLE_EQ(expected_destinations(1, 8), 1.0);
  EXPECT_DOUBLE_EQ(expected_destinations(8, 1), 1.0);
  EXPECT_DOUBLE_EQ(expected_destinations(2, 2), 1.5);
  EXPECT_NEAR(expected_destinations(8, 8), 8.0 * (1.0 - std::pow(7.0 / 8.0, 8)), 1e-12);
  EXPECT_LT(expected_destinations(1 << 16, 8), 8.0);
}

TEST(CostModel, DataParallelBytesAreGradientsAndWeightsOnce) {
  RunConfig c = eight_layers();
  c.parallel.zero = true;
  const double parameters = static_cast<double>(nn::model_size(c.model, 128).total);
  const AxisTraffic sent = test::published_model().step(c, 4).sent;
  const double routers = 7.0 * 16.0 * 256.0;  // stay in f32
  EXPECT_NEAR(sent.dp, (parameters * (4.0 + 2.0) + routers * 2.0) * 3.0 / 4.0, 1.0);
  EXPECT_EQ(sent.tp + sent.ep + sent.pp, 0.0);
  c.parallel.zero = false;
  EXPECT_NEAR(test::published_model().step(c, 4).sent.dp, parameters * 4.0 * 2.0 * 3.0 / 4.0, 1.0);
  EXPECT_EQ(test::published_model().step(c, 1).sent.total(), 0.0);
}

TEST(CostModel, TensorParallelBytesCountEachGatherOfTheVerbs) {
  RunConfig c = eight_layers();
  c.parallel.tp = 2;
  const double micro_batches = 32.0;
  // Forward 2, backward_input 2, backward_weight 2: in attention, and in the one dense MLP.
  const double gathers = 6.0 * (8 + 1);
  const double ends = 2.0 + 2.0;  // embedding, and the head's gather and reduce-scatter
  const double statistics = 3.0 * kTokens * 4.0;
  EXPECT_NEAR(test::published_model().step(c, 2).sent.tp,
              micro_batches * ((gathers + ends) * kWhole / 2.0 + statistics), 1.0);
}

TEST(CostModel, ExpertBytesAreOneCopyForEachDestination) {
  RunConfig c = eight_layers();
  c.parallel.ep = 4;
  const double micro_batches = 8.0;  // 64 sequences over four ranks, two at a time
  const double one = kWhole * expected_destinations(4, 4) * 3.0 / 4.0;
  EXPECT_NEAR(test::published_model().step(c, 4).sent.ep, micro_batches * 7.0 * 4.0 * one, 1.0);
  c.compute.recompute_mlp = "full";  // the tokens go out once more
  EXPECT_NEAR(test::published_model().step(c, 4).sent.ep, micro_batches * 7.0 * 5.0 * one, 1.0);
}

TEST(CostModel, PipelineBytesAreActivationsAndGradients) {
  RunConfig c = eight_layers();
  c.parallel.pp = 4;
  EXPECT_NEAR(test::published_model().step(c, 4).sent.pp, 32.0 * 2.0 * kWhole,
              1.0);  // a stage in the middle
  c.parallel.pp = 2;
  EXPECT_NEAR(test::published_model().step(c, 2).sent.pp, 32.0 * kWhole, 1.0);
}

TEST(CostModel, GrowsWithWorkAndShrinksWithRanks) {
  RunConfig c = eight_layers();
  const double base = test::published_model().step(c, 1).seconds;
  EXPECT_LT(test::published_model().step(c, 4).seconds, base);
  RunConfig wider = c;
  wider.model.moe_intermediate_size *= 2;
  EXPECT_GT(test::published_model().step(wider, 1).seconds, base);
  RunConfig again = c;
  again.compute.recompute_mlp = "full";
  EXPECT_GT(test::published_model().step(again, 1).seconds, base);
  Calibration slow = published_calibration(80.0, "bf16");
  slow.compute.dense.flops_per_s /= 2.0;
  EXPECT_GT(CostModel(slow, 8).step(c, 1).seconds, base);
}

TEST(CostModel, ALinkBetweenNodesIsSlower) {
  RunConfig c = eight_layers();
  c.parallel.tp = 4;
  EXPECT_GT(test::published_model(1).step(c, 4).seconds,
            test::published_model(4).step(c, 4).seconds);
}

TEST(CostModel, RanksTheSchedulesAsTheirTheoryDoes) {
  RunConfig c = eight_layers();
  c.model.vocab_size = 8;  // the head would unbalance the stages
  c.model.first_k_dense_replace = 0;
  c.parallel.pp = 4;
  c.training.micro_batch_size = 4;
  const auto bubble = [&](const char* schedule, int chunks) {
    c.parallel.schedule = schedule;
    c.parallel.chunks = chunks;
    return test::published_model().step(c, 4).bubble_share;
  };
  const double plain = bubble("1f1b", 1), interleaved = bubble("interleaved", 2);
  const double h1 = bubble("zb-h1", 1), v = bubble("zbv", 2);
  EXPECT_NEAR(plain, 3.0 / (16.0 + 3.0), 0.05);
  EXPECT_LT(interleaved, plain);
  EXPECT_LT(h1, plain);
  EXPECT_LT(v, h1);
}

TEST(CostModel, AQuickStepIsCloseToTheExecutedOne) {
  RunConfig c = eight_layers();
  for (const int pp : {1, 2, 4}) {
    c.parallel.pp = pp;
    const double executed = test::published_model().step(c, pp).seconds;
    EXPECT_NEAR(test::published_model().quick_step(c, pp).seconds, executed, 0.15 * executed) << pp;
  }
}

TEST(CostModel, ChunksCoverTheLayersAndFollowTheInput) {
  RunConfig c = eight_layers();
  c.parallel.pp = 3;
  const auto ranges = model_chunks(c);
  ASSERT_EQ(ranges.size(), 3U);
  EXPECT_EQ(ranges.front().first_layer, 0);
  EXPECT_EQ(ranges.back().last_layer, 8);
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    EXPECT_EQ(ranges[i].first_layer, ranges[i - 1].last_layer);
    EXPECT_GT(ranges[i].last_layer, ranges[i].first_layer);
  }
  c.parallel.stages = "2,4,2";
  EXPECT_EQ(model_chunks(c)[1].last_layer, 6);
  c.parallel.stages = "2,4";
  EXPECT_THROW((void)model_chunks(c), InputError);
  c.parallel.stages.clear();
  c.parallel.pp = 9;
  EXPECT_THROW((void)model_chunks(c), InputError);
}

TEST(CostModel, HeldParametersAddUpToTheModel) {
  RunConfig c = eight_layers();
  const double total = static_cast<double>(nn::model_size(c.model, 128).total);
  EXPECT_DOUBLE_EQ(held_parameters(c, model_chunks(c)).front().total(), total);
  c.parallel.pp = 4;
  double sum = 0.0;
  for (const HeldParameters& held : held_parameters(c, model_chunks(c))) {
    sum += held.total();
  }
  EXPECT_DOUBLE_EQ(sum, total);
  c.parallel.pp = 1;
  c.parallel.ep = 4;
  const HeldParameters held = held_parameters(c, model_chunks(c)).front();
  EXPECT_DOUBLE_EQ(held.experts, 7.0 * 3.0 * 16.0 * 128.0 * 256.0 / 4.0);
}

TEST(NetworkCost, AGroupInsideANodeUsesItsLinks) {
  Calibration c = published_calibration(80.0, "bf16");
  c.intra_node.all_gather = {.latency_s = 1.0, .bytes_per_s = 100.0};
  c.inter_node.all_gather = {.latency_s = 10.0, .bytes_per_s = 10.0};
  const NetworkCost network{c, 4};
  EXPECT_DOUBLE_EQ(network.all_gather({.size = 1, .stride = 1}, 400.0), 0.0);
  EXPECT_DOUBLE_EQ(network.all_gather({.size = 4, .stride = 1}, 400.0), 3.0 + 300.0 / 100.0);
  EXPECT_DOUBLE_EQ(network.all_gather({.size = 4, .stride = 4}, 400.0), 30.0 + 300.0 / 10.0);
  EXPECT_EQ(network.members_per_node({.size = 8, .stride = 2}), 2);
}

TEST(Calibration, SurvivesAJsonRoundTrip) {
  Calibration c = published_calibration(141.0, "bf16");
  c.host = "node1";
  c.compute.norm_bytes_per_s = 1.25e12;
  c.inter_node.all_to_all.latency_s = 3.5e-6;
  const io::Json json = to_json(c);
  EXPECT_EQ(to_json(calibration_from_json(json, "test")), json);
  io::Json broken = json;
  broken["compute"]["norm_bytes_per_s"] = 0.0;
  EXPECT_THROW((void)calibration_from_json(broken, "test"), InputError);
  broken = json;
  broken["intra_node"].erase("all_reduce");
  EXPECT_THROW((void)calibration_from_json(broken, "test"), InputError);
}

TEST(Calibration, AFitFindsWhatMadeTheTimes) {
  std::vector<Sample> samples;
  for (const double a : {1.0, 3.0, 10.0}) {
    for (const double b : {2.0, 50.0}) samples.push_back({a, b, 0.5 * a + 0.25 * b});
  }
  const Fit fit = fit_times(samples);
  EXPECT_NEAR(fit.first_s, 0.5, 1e-9);
  EXPECT_NEAR(fit.second_s, 0.25, 1e-9);
  const Fit only = fit_times({{1.0, 1.0, 1.0}, {2.0, 1.0, 2.5}});
  EXPECT_GE(only.second_s, 0.0);
}

}  // namespace
}  // namespace shoal::train
