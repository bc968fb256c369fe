// What a step must keep whatever the schedule, the recompute mode and the split into micro-batches.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "harness.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::nn::test {
namespace {

constexpr Scales kScales{.loss = 0.01F, .aux = 0.05F, .z = 0.002F, .budget = 0.1F, .step_seed = 3};

ModelConfig with_dropout(ModelConfig c) {
  c.embedding_dropout = 0.1;
  c.attention_dropout = 0.2;
  c.expert_dropout = 0.3;
  return c;
}
ModelConfig with_dynamic_heads(ModelConfig c) {
  c.dynamic_heads = {.enabled = true, .gate_block = 8, .head_budget = 0.3, .head_budget_coef = 1.0};
  c.num_key_value_heads = 4;
  return c;
}
const HostBatch& documents() {
  static const HostBatch batch = random_batch(3, 32, 37, {7, 20});
  return batch;
}

struct Result {
  float loss;
  std::vector<float> gradients, totals;
};
Result run_step(const ModelConfig& config, const ComputeConfig& compute, DType elem) {
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = config, .compute = compute, .elem = elem}};
  const float loss = m.train(documents(), kScales);
  return {loss, m.all_gradients(), download_floats(exec, m.model.state().totals)};
}

class RecomputeModes : public ::testing::TestWithParam<DType> {};

TEST_P(RecomputeModes, GiveTheSameBitsAndNeedLessMemory) {
  const ModelConfig config = with_dropout(with_dynamic_heads(small_config()));
  const Result expected = run_step(config, {}, GetParam());
  for (const char* attention : {"none", "selective", "full"}) {
    for (const char* mlp : {"none", "selective", "full"}) {
      const ComputeConfig compute{.recompute_attention = attention, .recompute_mlp = mlp};
      const Result got = run_step(config, compute, GetParam());
      EXPECT_TRUE(all_equal(got.gradients, expected.gradients)) << attention << " " << mlp;
      EXPECT_TRUE(all_equal(got.totals, expected.totals)) << "counted once: " << attention << mlp;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Precision, RecomputeModes, ::testing::Values(DType::f32, DType::bf16));

/// Peak of saved slots on a dry step.
std::int64_t planned_saved(const ComputeConfig& compute) {
  Exec exec = Exec::dry(DeviceKind::cpu);
  Harness m{exec, {.config = small_config(), .compute = compute}};
  m.train(documents(), kScales);
  return exec.arena().plan().saved_total();
}

TEST(Recompute, KeepsLess) {
  const std::int64_t none = planned_saved({});
  const std::int64_t selective =
      planned_saved({.recompute_attention = "selective", .recompute_mlp = "selective"});
  const std::int64_t full = planned_saved({.recompute_attention = "full", .recompute_mlp = "full"});
  EXPECT_LT(selective, none);
  EXPECT_LT(full, selective / 3);
}

TEST(SplitBackward, InTwoSlotsEqualsTheCombinedOne) {
  const ModelConfig config = with_dropout(with_dynamic_heads(small_config()));
  for (const char* mode : {"none", "selective", "full"}) {
    const ComputeConfig compute{.recompute_attention = mode, .recompute_mlp = mode};
    Exec exec = make_exec(DeviceKind::cpu, 64);
    Harness m{exec, {.config = config, .compute = compute}};
    const DeviceBatch first{exec, documents()}, second{exec, random_batch(3, 32, 37)};
    const DeviceScalars scalars{exec, kScales};
    const Pass a{.batch = first.view(), .scalars = scalars.view()};
    const Pass b{.batch = second.view(), .scalars = scalars.view()};
    MicroBatchSaved saved = m.model.make_saved(), other = m.model.make_saved();
    m.model.train_micro_batch(exec, a, saved, 0, ops::Accumulate::overwrite);
    m.model.train_micro_batch(exec, b, saved, 0, ops::Accumulate::add);
    const std::vector<float> expected = m.all_gradients();

    const Store slot0 = exec.arena().saved(0), slot1 = exec.arena().saved(1);
    m.model.forward(exec, a, saved, slot0);
    m.model.forward(exec, b, other, slot1);
    m.model.backward_input(exec, a, {}, saved, slot0, ops::Accumulate::overwrite);
    m.model.backward_input(exec, b, {}, other, slot1, ops::Accumulate::add);
    m.model.backward_weight(exec, a, saved, ops::Accumulate::overwrite);
    m.model.backward_weight(exec, b, other, ops::Accumulate::add);
    EXPECT_TRUE(all_equal(m.all_gradients(), expected)) << mode;
  }
}

TEST(SplitBackward, WithATiedTableEqualsTheCombinedOne) {
  ModelConfig config = small_config();
  config.tie_word_embeddings = true;
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = config}};
  m.train(documents(), kScales);
  const std::vector<float> expected = m.all_gradients();
  const DeviceBatch batch{exec, documents()};
  const DeviceScalars scalars{exec, kScales};
  const Pass pass{.batch = batch.view(), .scalars = scalars.view()};
  MicroBatchSaved saved = m.model.make_saved();
  m.model.forward(exec, pass, saved, exec.arena().saved(0));
  m.model.backward_input(exec, pass, {}, saved, exec.arena().saved(0), ops::Accumulate::overwrite);
  m.model.backward_weight(exec, pass, saved, ops::Accumulate::overwrite);
  EXPECT_TRUE(all_equal(m.all_gradients(), expected));
}

TEST(Accumulation, OfTwoMicroBatchesEqualsOneOfDoubleSize) {
  const ModelConfig config = with_dropout(with_dynamic_heads(small_config()));
  const HostBatch all = random_batch(4, 32, 37, {11});
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = config}};
  const float loss = m.train(all, kScales);
  const std::vector<float> expected = m.all_gradients();
  const std::vector<float> totals = download_floats(exec, m.model.state().totals);

  const DeviceBatch first{exec, sequences_of(all, 0, 2)}, second{exec, sequences_of(all, 2, 2)};
  const DeviceScalars scalars{exec, kScales};
  MicroBatchSaved saved = m.model.make_saved();
  m.model.begin_step(exec);
  m.model.train_micro_batch(exec, {.batch = first.view(), .scalars = scalars.view()}, saved, 0,
                            ops::Accumulate::overwrite);
  m.model.train_micro_batch(exec, {.batch = second.view(), .scalars = scalars.view()}, saved, 0,
                            ops::Accumulate::add);
  EXPECT_LE(distance(m.all_gradients(), expected), 2e-6);
  EXPECT_NEAR(m.loss_sum(), loss, 1e-6 * loss);
  EXPECT_LE(distance(download_floats(exec, m.model.state().totals), totals), 1e-6);
}

TEST(Plan, OfADryStepIsExactlyTheArenaOfARealOne) {
  for (const char* mode : {"none", "selective", "full"}) {
    const ComputeConfig compute{.recompute_attention = mode, .recompute_mlp = mode};
    const Harness::Options options{.config = with_dropout(with_dynamic_heads(small_config())),
                                   .compute = compute,
                                   .elem = DType::bf16};
    Exec dry = Exec::dry(DeviceKind::cpu);
    {
      Harness m{dry, options};
      m.train(documents(), kScales);
    }
    const ArenaPlan plan = dry.arena().plan();
    Exec real{DeviceKind::cpu, plan};
    Harness m{real, options};
    EXPECT_GT(m.train(documents(), kScales), 0.0F);
    const ArenaPlan used = real.arena().plan();
    EXPECT_EQ(used.persistent, plan.persistent);
    EXPECT_EQ(used.saved, plan.saved);
    EXPECT_EQ(used.scratch, plan.scratch) << mode;
  }
}

TEST(Stages, ChainedEqualTheWholeModel) {
  const ModelConfig config = with_dropout(small_config());
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness whole_stage{exec, {.config = config}};
  const float loss = whole_stage.train(documents(), kScales);

  Harness front{exec, {.config = config}, {.first_layer = 0, .last_layer = 2, .head = false}};
  Harness back{exec, {.config = config}, {.first_layer = 2, .last_layer = 3, .embedding = false}};
  const DeviceBatch batch{exec, documents()};
  const DeviceScalars scalars{exec, kScales};
  const Pass pass{.batch = batch.view(), .scalars = scalars.view()};
  MicroBatchSaved x = front.model.make_saved(), y = back.model.make_saved();
  back.model.begin_step(exec);
  front.model.forward(exec, pass, x, exec.arena().saved(0));
  y.input_TD = x.output_TD;
  back.model.forward(exec, pass, y, exec.arena().saved(1));
  const Tensor border{DeviceKind::cpu, x.output_TD.shape(), DType::f32};
  back.model.backward(exec, pass, {.dx_TD = border}, y, ops::Accumulate::overwrite);
  front.model.backward(exec, pass, {.dy_TD = border}, x, ops::Accumulate::overwrite);
  EXPECT_EQ(back.loss_sum(), loss);
  for (const Parameter& p : whole_stage.layout.parameters.parameters()) {
    const auto& names = front.layout.parameters.parameters();
    const bool in_front = std::any_of(
        names.begin(), names.end(), [&](const Parameter& q) { return q.spec.name == p.spec.name; });
    EXPECT_TRUE(all_equal((in_front ? front : back).gradient(p.spec.name),
                          whole_stage.gradient(p.spec.name)))
        << p.spec.name;
  }
}

TEST(Experts, WithoutTokensGetZeroGradients) {
  ModelConfig config = small_config();
  config.num_experts = 64;  // more than the six routed rows of a layer
  config.router_aux_loss_coef = config.router_z_loss_coef = 0.0;
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = config}};
  ops::fill(exec, m.store.gradients(), 7.0F);
  m.train(random_batch(1, 3, 37), kScales);
  const std::vector<float> counts = download_floats(exec, m.model.state().ledger[0].count_E);
  const std::vector<float> gradient = m.gradient("layers.1.mlp.experts.down_proj");
  const std::size_t size = gradient.size() / counts.size();
  int idle = 0;
  for (std::size_t e = 0; e < counts.size(); ++e) {
    const std::vector<float> part(gradient.begin() + static_cast<std::ptrdiff_t>(e * size),
                                  gradient.begin() + static_cast<std::ptrdiff_t>((e + 1) * size));
    const bool zero = std::all_of(part.begin(), part.end(), [](float g) { return g == 0.0F; });
    EXPECT_EQ(zero, counts[e] == 0.0F) << e;
    idle += zero ? 1 : 0;
  }
  EXPECT_GE(idle, 58);
}

TEST(Evaluate, IsTheTrainingLossWithoutDropout) {
  for (const std::int64_t chunk : {7, 1024}) {
    Exec exec = make_exec(DeviceKind::cpu, 64);
    Harness m{exec, {.config = small_config(), .compute = {.loss_chunk = chunk}}};
    const float loss = m.train(documents(), kScales);
    const std::vector<float> totals = download_floats(exec, m.model.state().totals);
    EXPECT_NEAR(m.evaluate(documents()), loss, 1e-6 * loss);
    EXPECT_TRUE(all_equal(download_floats(exec, m.model.state().totals), totals))
        << "evaluation is not counted";
  }
}

TEST(LossChunks, DoNotChangeTheGradient) {
  Result parts[2];
  for (int i = 0; i < 2; ++i) {
    parts[i] = run_step(small_config(), {.loss_chunk = i == 0 ? 1024 : 10}, DType::f32);
  }
  EXPECT_LE(distance(parts[1].gradients, parts[0].gradients), 1e-6);
  EXPECT_NEAR(parts[1].loss, parts[0].loss, 1e-4);
}

TEST(Dropout, FollowsTheStepsSeedAndTheGlobalToken) {
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = with_dropout(small_config())}};
  Scales scales = kScales;
  const float loss = m.train(documents(), scales);
  EXPECT_EQ(m.train(documents(), scales), loss);
  HostBatch later = documents();
  later.first_token = 96;
  EXPECT_NE(m.train(later, scales), loss);
  scales.step_seed = 4;
  EXPECT_NE(m.train(documents(), scales), loss);
}

TEST(RouterBias, MovesTowardsTheIdleExperts) {
  ModelConfig config = small_config();
  config.router_bias_update_rate = 0.25;
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = config}};
  const std::vector<NamedView> state = m.model.state().checkpointed();
  ASSERT_EQ(state.size(), 2U);
  EXPECT_EQ(state[0].name, "layers.1.mlp.gate.e_score_correction_bias");
  m.train(documents(), kScales);
  m.model.update_router_bias(exec, from_ints(exec, {1}, {1}));
  EXPECT_EQ(download_floats(exec, state[0].view), std::vector<float>(5, 0.0F)) << "skipped step";
  m.model.update_router_bias(exec, {});
  const std::vector<float> counts = download_floats(exec, m.model.state().ledger[0].count_E);
  const std::vector<float> bias = download_floats(exec, state[0].view);
  const float mean = 96.0F * 2.0F / 5.0F;
  for (std::size_t e = 0; e < 5; ++e) EXPECT_EQ(bias[e], counts[e] < mean ? 0.25F : -0.25F);
}

TEST(Logits, OfChosenRowsPredictTheLoss) {
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = small_config()}};
  HostBatch batch = random_batch(2, 16, 37);
  std::fill(batch.mask.begin(), batch.mask.end(), 0);
  batch.mask[5] = batch.mask[20] = 1;
  const DeviceBatch device{exec, batch};
  const Tensor rows = from_ints(exec, {2}, {5, 20}), logits{DeviceKind::cpu, {2, 37}, DType::f32};
  m.model.logits(exec, device.view(), {.logits_NV = logits, .rows_N = rows});
  const std::vector<float> values = download_floats(exec, logits);
  double loss = 0.0;
  for (int i = 0; i < 2; ++i) {
    double sum = 0.0;
    for (int v = 0; v < 37; ++v) sum += std::exp(double{values[i * 37 + v]});
    loss += std::log(sum) - values[i * 37 + batch.target[i == 0 ? 5 : 20]];
  }
  EXPECT_NEAR(m.evaluate(batch), loss, 1e-5);
}

TEST(Batch, LongerThanTheRotaryTablesIsRefused) {
  Exec exec = Exec::dry(DeviceKind::cpu);
  Harness m{exec, {.config = small_config()}};
  EXPECT_THROW(m.train(random_batch(1, 161, 37), kScales), Error);
}

}  // namespace
}  // namespace shoal::nn::test
