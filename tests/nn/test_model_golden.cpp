// Loss, router ledger and the gradient of every parameter against PyTorch (tests/golden/README.md).
#include <gtest/gtest.h>

#include <string>

#include "golden.hpp"

namespace shoal::nn::test {
namespace {

constexpr double kLossTolerance = 1e-6;
constexpr double kGradientTolerance = 1e-5;  // norm-relative for each parameter

struct Case {
  std::string name;
  DeviceKind device;
};

class ModelGolden : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().device == DeviceKind::cuda && !cuda_available()) {
      GTEST_SKIP() << "no CUDA device on this host";
    }
  }
};

TEST_P(ModelGolden, LossAndEveryGradientAreThoseOfPyTorch) {
  Exec exec = make_exec(GetParam().device, 64);
  const Golden golden{"model_" + GetParam().name};
  GoldenModel m{exec, golden, DType::f32};
  const HostBatch batch = golden.batch();
  const float loss = m.harness.train(batch, golden.scales());
  EXPECT_NEAR(loss, golden.real("loss_sum"), kLossTolerance * golden.real("loss_sum"));
  const auto& parameters = m.harness.layout.parameters.parameters();
  EXPECT_EQ(parameters.size(), golden.list("gradient").size());
  for (const Parameter& p : parameters) {
    const std::vector<float> expected = golden.values<float>("gradient/" + p.spec.name);
    EXPECT_LE(distance(m.harness.gradient(p.spec.name), expected), kGradientTolerance)
        << p.spec.name;
  }
}

TEST_P(ModelGolden, RouterLedgerIsThatOfPyTorch) {
  Exec exec = make_exec(GetParam().device, 64);
  const Golden golden{"model_" + GetParam().name};
  GoldenModel m{exec, golden, DType::f32};
  const HostBatch batch = golden.batch();
  m.harness.train(batch, golden.scales());
  const ModelState& state = m.harness.model.state();
  ASSERT_EQ(state.ledger.size(), golden.list("ledger").size());
  for (const RouterLedger& ledger : state.ledger) {
    const std::string at = "ledger/" + std::to_string(ledger.layer);
    EXPECT_EQ(download_floats(exec, ledger.count_E), golden.values<float>(at + "/count"));
    EXPECT_TRUE(all_near(download_floats(exec, ledger.sums), golden.values<float>(at + "/sums"),
                         {.relative = 1e-5, .global = 1e-5}));
  }
}

/// Rounding may send a token to another expert, which no bound on a single matrix survives: the
/// whole gradient is compared.
TEST_P(ModelGolden, SixteenBitTrainingIsNearPyTorch) {
  const Golden golden{"model_" + GetParam().name};
  for (const auto& [elem, tolerance] : {std::pair{DType::bf16, 0.1}, {DType::f16, 0.01}}) {
    Exec exec = make_exec(GetParam().device, 64);
    GoldenModel m{exec, golden, elem};
    const HostBatch batch = golden.batch();
    const float loss = m.harness.train(batch, golden.scales());
    EXPECT_NEAR(loss, golden.real("loss_sum"), 0.1 * tolerance * golden.real("loss_sum"));
    std::vector<float> got, expected;
    for (const Parameter& p : m.harness.layout.parameters.parameters()) {
      const std::vector<float> part = m.harness.gradient(p.spec.name);
      const std::vector<float> golden_part = golden.values<float>("gradient/" + p.spec.name);
      got.insert(got.end(), part.begin(), part.end());
      expected.insert(expected.end(), golden_part.begin(), golden_part.end());
    }
    EXPECT_LE(distance(got, expected), tolerance) << name(elem);
    RecordProperty(std::string{name(elem)}, std::to_string(distance(got, expected)));
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::cuda}) {
    for (const char* name :
         {"softmax", "sigmoid", "documents", "dense", "capacity", "dynamic", "dynamic_budget"}) {
      all.push_back({name, device});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, ModelGolden, ::testing::ValuesIn(cases()), [](const auto& info) {
  return info.param.name + (info.param.device == DeviceKind::cpu ? "_cpu" : "_cuda");
});

}  // namespace
}  // namespace shoal::nn::test
