#include "shoal/nn/generator.hpp"

#include <gtest/gtest.h>

#include "harness.hpp"

namespace shoal::nn::test {
namespace {

struct Case {
  bool dynamic;
  DType elem;
  DeviceKind device;
};

class Generation : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().device == DeviceKind::cuda && !cuda_available()) {
      GTEST_SKIP() << "no CUDA device on this host";
    }
  }
  [[nodiscard]] static ModelConfig config() {
    ModelConfig c = small_config();
    c.num_key_value_heads = 4;
    c.dynamic_heads = {.enabled = GetParam().dynamic, .gate_block = 8};
    return c;
  }
};

/// Logits after every token of one document, by the full forward.
std::vector<std::vector<float>> full_logits(Harness& m, const HostBatch& batch) {
  std::vector<std::int32_t> rows(batch.token.size());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i);
  const auto T = static_cast<std::int64_t>(rows.size());
  const Tensor logits{m.exec.device(), {T, m.config.vocab_size}, DType::f32};
  const DeviceBatch device{m.exec, batch};
  m.model.logits(m.exec, device.view(),
                 {.logits_NV = logits, .rows_N = from_ints(m.exec, {T}, rows)});
  const std::vector<float> flat = download_floats(m.exec, logits);
  std::vector<std::vector<float>> out;
  for (std::int64_t t = 0; t < T; ++t) {
    out.emplace_back(flat.begin() + t * m.config.vocab_size,
                     flat.begin() + (t + 1) * m.config.vocab_size);
  }
  return out;
}

TEST_P(Generation, WithTheCacheEqualsTheFullForward) {
  Exec exec = make_exec(GetParam().device, 64);
  ModelConfig model = config();
  // In 16 bits a near tie may route a token elsewhere: with all experts chosen there is no tie.
  if (GetParam().elem != DType::f32) model.num_experts_per_tok = model.num_experts;
  Harness m{exec, {.config = model, .elem = GetParam().elem}};
  const HostBatch batch = random_batch(1, 45, 37);
  const std::vector<std::vector<float>> expected = full_logits(m, batch);
  const double tolerance = GetParam().elem == DType::f32 ? 1e-5 : 0.03;
  Generator session{exec, m.model, {.max_tokens = 45, .max_chunk = 16}};
  const std::span<const std::int32_t> tokens{batch.token};
  // A prompt of 21 tokens runs in chunks of 16 and 5, across gate blocks; then one at a time.
  EXPECT_LE(distance(session.append(exec, tokens.subspan(0, 21)), expected[20]), tolerance);
  for (std::size_t t = 21; t < 45; ++t) {
    EXPECT_LE(distance(session.append(exec, tokens.subspan(t, 1)), expected[t]), tolerance) << t;
  }
  EXPECT_EQ(session.length(), 45);
  session.clear();
  EXPECT_LE(distance(session.append(exec, tokens.subspan(0, 3)), expected[2]), tolerance);
}

TEST_P(Generation, OfDynamicHeadsSkipsGroups) {
  if (!GetParam().dynamic) GTEST_SKIP() << "all heads are active";
  Exec exec = make_exec(GetParam().device, 64);
  ModelConfig all_heads = config();
  all_heads.dynamic_heads.enabled = false;
  Harness m{exec, {.config = config()}}, all{exec, {.config = all_heads}};
  const HostBatch batch = random_batch(1, 45, 37);
  const auto gated = full_logits(m, batch), open = full_logits(all, batch);
  EXPECT_LE(distance(gated[7], open[7]), 1e-6) << "a first block uses all groups";
  for (const std::size_t t : {20, 25, 30, 44}) EXPECT_GT(distance(gated[t], open[t]), 0.01) << t;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::cuda}) {
    for (const DType elem : {DType::f32, DType::bf16}) {
      for (const bool dynamic : {false, true}) all.push_back({dynamic, elem, device});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Models, Generation, ::testing::ValuesIn(cases()), [](const auto& info) {
  const Case& c = info.param;
  return std::string{c.dynamic ? "dynamic_" : "all_heads_"} + std::string{name(c.elem)} +
         (c.device == DeviceKind::cpu ? "_cpu" : "_cuda");
});

TEST(GenerationLimits, AreErrorsOfTheUser) {
  Exec exec = make_exec(DeviceKind::cpu, 64);
  Harness m{exec, {.config = small_config()}};
  Generator session{exec, m.model, {.max_tokens = 4}};
  const std::vector<std::int32_t> fits = {1, 2, 3}, more = {4, 5}, outside = {37};
  (void)session.append(exec, fits);
  EXPECT_THROW((void)session.append(exec, more), InputError) << "the cache is full";
  EXPECT_THROW((void)session.append(exec, outside), InputError) << "no such token";
  EXPECT_THROW((void)session.append(exec, {}), InputError);
  EXPECT_EQ(session.length(), 3);
}

TEST(GenerationPlan, CountsTheCacheAndTheScratchOfTheLongestPrompt) {
  ModelConfig config = small_config();
  config.dynamic_heads = {.enabled = true, .gate_block = 8};
  const Generator::Room room{.max_tokens = 150, .max_chunk = 32};
  const std::vector<std::int32_t> prompt(150, 1);
  Exec dry = Exec::dry(DeviceKind::cpu);
  {
    Harness m{dry, {.config = config}};
    Generator session{dry, m.model, room};
    (void)session.append(dry, prompt);
  }
  const ArenaPlan plan = dry.arena().plan();
  // Three layers of keys and values of two groups of eight, fp32.
  EXPECT_GE(plan.by_kind[static_cast<std::size_t>(MemoryKind::cache)], 3 * 2 * 150 * 16 * 4);
  Exec real{DeviceKind::cpu, plan};
  Harness m{real, {.config = config}};
  Generator session{real, m.model, room};
  for (int t = 0; t < 150; ++t) (void)session.append(real, std::span{prompt}.subspan(0, 1));
  session.clear();
  (void)session.append(real, prompt);
  EXPECT_EQ(real.arena().plan().scratch, plan.scratch);
}

}  // namespace
}  // namespace shoal::nn::test
