#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "shoal/optim/optimizer.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::optim {
namespace {

constexpr std::int64_t kRows = 3;
constexpr std::int64_t kCols = 5;

nn::ParameterLayout small_layout() {
  nn::ParameterLayout layout;
  const Shape matrix{kRows, kCols};
  layout.add({{.name = "matrix", .shape = matrix, .slice = nn::whole(matrix)}}, matrix);
  layout.add({{.name = "gain", .shape = {kCols}, .slice = nn::whole({kCols}), .decay = false}},
             {kCols});
  layout.add({{.name = "router", .shape = matrix, .slice = nn::whole(matrix), .keep_f32 = true}},
             matrix);
  layout.finish();
  return layout;
}

/// A real optimizer in memory that a dry one measured.
struct Bench {
  explicit Bench(const OptimizerConfig& config, DType elem = DType::f32)
      : layout{small_layout()},
        exec{DeviceKind::cpu, measure(layout, config, elem)},
        store{exec, layout, elem, true},
        optimizer{exec, store, config},
        inputs{DeviceKind::cpu, {sizeof(StepInputs)}, DType::u8} {
    optimizer.reset(exec);
    for (const nn::Parameter& p : layout.parameters()) {
      std::vector<float> values(static_cast<std::size_t>(p.storage.elements()));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.1F * static_cast<float>(i + 1);
      optimizer.set_master(exec, window(p.spec.name), values.data());
    }
  }
  [[nodiscard]] Optimizer::MasterWindow window(std::string_view name) const {
    const nn::Parameter& p = layout.find(name);
    return {.parameter = static_cast<int>(&p - layout.parameters().data()),
            .count = p.storage.elements()};
  }
  static ArenaPlan measure(const nn::ParameterLayout& layout, const OptimizerConfig& config,
                           DType elem) {
    const Exec dry = Exec::dry(DeviceKind::cpu);
    const nn::ParameterStore store{dry, layout, elem, true};
    const Optimizer optimizer{dry, store, config};
    optimizer.step(dry);
    return dry.arena().plan();
  }
  void set_gradients(float value) const {
    const TensorView g = store.gradients();
    for (const nn::Parameter& p : layout.parameters()) {
      const std::int64_t base = layout.gradient_base(p.spec.keep_f32) + p.storage.offset;
      for (std::int64_t i = 0; i < p.storage.elements(); ++i) g.data<float>()[base + i] = value;
    }
  }
  void step(const StepInputs& in) const {
    std::memcpy(inputs.view().bytes_begin(), &in, sizeof in);
    optimizer.take_inputs(exec, inputs.view().bytes_begin());
    optimizer.step(exec);
  }
  [[nodiscard]] std::vector<float> master(const char* name) const {
    const nn::Parameter& p = layout.find(name);
    std::vector<float> out(static_cast<std::size_t>(p.storage.elements()));
    optimizer.get_master(exec, window(name), out.data());
    return out;
  }
  [[nodiscard]] ops::StepState state() const {
    ops::StepState s;
    std::memcpy(&s, optimizer.state().bytes_begin(), sizeof s);
    return s;
  }

  nn::ParameterLayout layout;
  Exec exec;
  nn::ParameterStore store;
  Optimizer optimizer;
  Tensor inputs;
};

TEST(Optimizer, AdamwFirstStepMovesEachWeightByItsRateAndDecay) {
  const Bench b{{.kind = "adamw", .weight_decay = 0.5, .clip_norm = 0.0}};
  b.set_gradients(2.0F);
  b.step({.lr = 0.01F, .seed = 1});
  // In the first step m^ / sqrt(v^) is one for any gradient.
  EXPECT_NEAR(b.master("matrix")[4], 0.5F - 0.01F * (1.0F + 0.5F * 0.5F), 1e-6);
  EXPECT_NEAR(b.master("router")[4], 0.5F - 0.01F * (1.0F + 0.5F * 0.5F), 1e-6);
  EXPECT_NEAR(b.master("gain")[4], 0.5F - 0.01F, 1e-6);  // a norm's gain does not decay
}

TEST(Optimizer, NormCountsEachElementOnce) {
  const Bench b{{.kind = "sgd", .clip_norm = 1.0}};
  b.set_gradients(3.0F);
  b.step({.lr = 0.0F});
  const double elements = 2 * kRows * kCols + kCols;
  EXPECT_NEAR(b.state().grad_norm, 3.0 * std::sqrt(elements), 1e-4);
  EXPECT_NEAR(b.state().grad_factor, 1.0 / (3.0 * std::sqrt(elements)), 1e-6);
}

TEST(Optimizer, AStepWithInfiniteGradientsChangesNothingAndIsCounted) {
  const Bench b{{.kind = "amf"}, DType::f16};
  EXPECT_EQ(b.state().loss_scale, 65536.0F);
  const auto before = b.master("matrix");
  b.set_gradients(std::numeric_limits<float>::infinity());
  b.step({.lr = 0.01F, .mu = 0.9F});
  EXPECT_EQ(b.master("matrix"), before);
  EXPECT_EQ(b.state().skip, 1);
  EXPECT_EQ(b.state().good_steps, 0);
  EXPECT_EQ(b.state().loss_scale, 32768.0F);
  b.set_gradients(1.0F);
  b.step({.lr = 0.01F, .mu = 0.9F});
  EXPECT_NE(b.master("matrix"), before);
  EXPECT_EQ(b.state().skips_in_a_row, 0);
  EXPECT_EQ(b.state().skipped_total, 1);
}

TEST(Optimizer, MasterWeightsSurviveAnyWorkingPrecision) {
  for (const DType elem : {DType::f32, DType::bf16, DType::f16}) {
    const Bench b{{.kind = "adamw"}, elem};
    const nn::Parameter& p = b.layout.find("matrix");
    std::vector<float> values(static_cast<std::size_t>(p.storage.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = std::nextafter(1.0F / static_cast<float>(i + 3), 1.0F);
    }
    b.optimizer.set_master(b.exec, b.window("matrix"), values.data());
    EXPECT_EQ(b.master("matrix"), values);
  }
}

TEST(Optimizer, StartsWithTheInitialValuesInFp32) {
  constexpr std::uint64_t kSeed = 5;
  for (const DType elem : {DType::f32, DType::bf16, DType::f16}) {
    const Bench b{{.kind = "adamw"}, elem};
    b.optimizer.initialise(b.exec, kSeed);
    for (const nn::Parameter& p : b.layout.parameters()) {
      const auto expected = nn::initial_values(p.spec, kSeed, 0, p.storage.elements());
      EXPECT_EQ(b.master(p.spec.name.c_str()), expected) << p.spec.name;
    }
  }
}

TEST(Optimizer, TakesOnlyTheStatesThatItsKindNeeds) {
  const auto present = [](const OptimizerConfig& config) {
    const Bench b{config};
    const StateBuffers& s = b.optimizer.buffers(false);
    return std::string{s.m.absent() ? "" : "m"} + (s.v.absent() ? "" : "v") +
           (s.u.absent() ? "" : "u");
  };
  EXPECT_EQ(present({.kind = "amf"}), "mvu");
  EXPECT_EQ(present({.kind = "amf", .nu = 0.0}), "mv");
  EXPECT_EQ(present({.kind = "amf-classic"}), "mvu");
  EXPECT_EQ(present({.kind = "amf-nesterov"}), "vu");
  EXPECT_EQ(present({.kind = "adamw"}), "mv");
  EXPECT_EQ(present({.kind = "sgd"}), "u");
}

}  // namespace
}  // namespace shoal::optim
