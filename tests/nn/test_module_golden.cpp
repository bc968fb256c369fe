// Each module alone against PyTorch: output, input gradient and weight gradients.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "golden.hpp"

namespace shoal::nn::test {
namespace {

constexpr double kTolerance = 1e-5;

/// One module of modules.h5 with its input, upstream gradient and room for the results.
class ModuleGolden : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::cuda && !cuda_available()) {
      GTEST_SKIP() << "no CUDA device on this host";
    }
    exec_.emplace(make_exec(GetParam(), 64));
    golden_.emplace("modules");
    m_.emplace(*exec_, *golden_, DType::f32);
    batch_.emplace(*exec_, golden_->batch());
    scalars_.emplace(*exec_, golden_->scales());
    y_ = poisoned(*exec_, rows(), DType::f32);
    dx_ = poisoned(*exec_, rows(), DType::f32);
  }

  [[nodiscard]] Shape rows() const { return {batch_->view().token_T.dim(0), model().hidden_size}; }
  [[nodiscard]] const ModelConfig& model() const { return m_->harness.config; }
  [[nodiscard]] const LayerHandles& layer(std::size_t n) const {
    return m_->harness.layout.stages[0].layers[n];
  }
  [[nodiscard]] Weight weight(ParameterLayout::Handle handle) const {
    return m_->harness.store.weight(handle);
  }
  [[nodiscard]] Pass pass() const { return {.batch = batch_->view(), .scalars = scalars_->view()}; }
  [[nodiscard]] Tensor input(const std::string& path) const {
    return from_values(*exec_, rows(), DType::f32, golden_->floats(path));
  }
  void expect_near(const ConstTensorView& got, const std::string& path) const {
    EXPECT_LE(distance(download_floats(*exec_, got), golden_->floats(path)), kTolerance) << path;
  }
  void expect_gradients(const std::string& module) const {
    const auto& parameters = m_->harness.layout.parameters.parameters();
    const std::vector<std::string> top = golden_->list(module + "/gradient");
    std::size_t compared = 0;
    for (const Parameter& p : parameters) {
      if (std::find(top.begin(), top.end(), p.spec.name) == top.end()) continue;
      EXPECT_LE(distance(m_->harness.gradient(p.spec.name),
                         golden_->floats(module + "/gradient/" + p.spec.name)),
                kTolerance)
          << p.spec.name;
      ++compared;
    }
    EXPECT_EQ(compared, top.size());
    EXPECT_GT(compared, 0U);
  }

  std::optional<Exec> exec_;
  std::optional<Golden> golden_;
  std::optional<GoldenModel> m_;
  std::optional<DeviceBatch> batch_;
  std::optional<DeviceScalars> scalars_;
  Tensor y_, dx_;
};

TEST_P(ModuleGolden, Norm) {
  const RmsNorm norm{weight(m_->harness.layout.stages[0].final_norm), model().rms_norm_eps};
  const Tensor x = input("norm/x"), dy = input("norm/dy");
  const TensorView rstd = scratch(*exec_, {rows()[0]}, DType::f32);
  norm.forward(*exec_, {.y_TD = y_, .rstd_T = rstd, .x_TD = x});
  const TensorView part = norm.reserve_parts(exec_->scratch(), x.shape()[0]);
  norm.backward_input(*exec_,
                      {.dx_TD = dx_, .gain_part_PD = part, .dy_TD = dy, .x_TD = x, .rstd_T = rstd});
  norm.backward_weight(*exec_, part, ops::Accumulate::overwrite);
  expect_near(y_, "norm/y");
  expect_near(dx_, "norm/dx");
  expect_gradients("norm");
}

TEST_P(ModuleGolden, Attention) {
  const Attention& attention = m_->harness.model.blocks()[0].attention();
  const Tensor x = input("attention/x"), dy = input("attention/dy");
  for (const Recompute recompute : {Recompute::none, Recompute::selective}) {
    const AttentionSaved saved = attention.reserve(exec_->scratch(), rows()[0], recompute);
    AttentionDelta delta = attention.reserve_delta(exec_->scratch(), rows()[0]);
    attention.forward(*exec_, pass(), y_, x, saved);
    attention.backward_input(*exec_, pass(), {.dx_TD = dx_, .dy_TD = dy, .x_TD = {}}, saved, delta);
    attention.backward_weight(*exec_, {.x_TD = x}, saved, delta);
    expect_near(y_, "attention/y");
    expect_near(dx_, "attention/dx");
    expect_gradients("attention");
  }
}

TEST_P(ModuleGolden, Mlp) {
  const Mlp mlp{weight(layer(0).mlp_gate_up), weight(layer(0).mlp_down), &m_->harness.group};
  const Tensor x = input("mlp/x"), dy = input("mlp/dy");
  for (const Recompute recompute : {Recompute::none, Recompute::selective}) {
    const MlpSaved saved = mlp.reserve(exec_->scratch(), rows()[0], recompute);
    MlpDelta delta = mlp.reserve_delta(exec_->scratch(), rows()[0]);
    mlp.forward(*exec_, {.y_TD = y_, .x_TD = x}, saved);
    mlp.backward_input(*exec_, {.dx_TD = dx_, .dy_TD = dy}, saved, delta);
    mlp.backward_weight(*exec_, x, saved, delta, ops::Accumulate::overwrite);
    expect_near(y_, "mlp/y");
    expect_near(dx_, "mlp/dx");
    expect_gradients("mlp");
  }
}

TEST_P(ModuleGolden, MoeWithSharedExpertBiasAndBalanceGradient) {
  const ModelState& state = m_->harness.model.state();
  const LayerHandles& h = layer(1);
  const Moe moe{
      {.router = Router{model(), weight(h.router), state.router_bias[1], &m_->harness.group},
       .experts = Experts{weight(h.experts_gate_up), weight(h.experts_down)},
       .shared = Mlp{weight(h.mlp_gate_up), weight(h.mlp_down), &m_->harness.group},
       .dispatcher = &m_->harness.dispatcher,
       .ledger = state.ledger[0]}};
  const Tensor x = input("moe/x"), dy = input("moe/dy");
  for (const Recompute recompute : {Recompute::none, Recompute::selective}) {
    const MoeSaved saved = moe.reserve(exec_->scratch(), batch_->view(), rows()[0], recompute);
    MoeDelta delta = moe.reserve_delta(exec_->scratch(), rows()[0]);
    moe.forward(*exec_, pass(), {.y_TD = y_, .x_TD = x}, saved);
    moe.backward_input(*exec_, pass(), {.dx_TD = dx_, .dy_TD = dy}, saved, delta);
    moe.backward_weight(*exec_, x, saved, delta, ops::Accumulate::overwrite);
    expect_near(y_, "moe/y");
    expect_near(dx_, "moe/dx");
    expect_gradients("moe");
  }
}

TEST_P(ModuleGolden, Embedding) {
  const Embedding embedding{weight(m_->harness.layout.stages[0].embedding), 0.0,
                            &m_->harness.group};
  embedding.forward(*exec_, pass(), y_);
  embedding.backward_weight(*exec_, pass(), input("embedding/dy"), ops::Accumulate::overwrite);
  expect_near(y_, "embedding/y");
  expect_gradients("embedding");
}

TEST_P(ModuleGolden, HeadInChunks) {
  const LmHead head{weight(m_->harness.layout.stages[0].lm_head), 20, &m_->harness.group};
  const Tensor x = input("head/x");
  const Tensor loss = from_values(*exec_, {1}, DType::f32, {0.0F});
  const Tensor one = from_values(*exec_, {1}, DType::f32, {1.0F});
  head.train(*exec_, batch_->view(), one, {.loss_sum = loss, .dx_TD = dx_, .x_TD = x});
  expect_near(loss, "head/y");
  expect_near(dx_, "head/dx");
  expect_gradients("head");
}

INSTANTIATE_TEST_SUITE_P(Devices, ModuleGolden,
                         ::testing::Values(DeviceKind::cpu, DeviceKind::cuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::cpu ? "cpu" : "cuda";
                         });

}  // namespace
}  // namespace shoal::nn::test
