#include "ops/both_devices.hpp"
#include "ops/head_gate_reference.hpp"
#include "shoal/ops/head_gate.hpp"

namespace shoal::ops {
namespace {

using test::doc_starts;
using test::GateLoss;
using test::GateProblem;
using test::make_problem;
using test::to_doubles;
using test::to_floats;

using HeadGateBackwardTest = test::BothDevices;

struct Gradients {
  std::vector<float> x, w, scalars;
};

Gradients backward(const Exec& exec, const GateProblem& p, const GateLoss& loss, DType dtype,
                   Accumulate accumulate) {
  const Shape TC{p.T, p.heads * p.head_dim}, TD{p.T, p.D};
  std::vector<float> gate;
  for (std::int64_t t = 0; t < p.T; ++t) gate.push_back(static_cast<float>(p.gate(t)));
  const auto fresh = [&](Shape shape) {
    return accumulate == Accumulate::add
               ? test::from_values(exec, shape, DType::f32,
                                   std::vector<float>(shape.elements(), 2.0F))
               : test::poisoned(exec, shape, DType::f32);
  };
  const Tensor dx = test::normal(exec, TD, dtype, 9), dw = fresh({p.D}), dscalars = fresh({2});
  const Tensor scale = loss.budget_scale == 0.0 ? Tensor{}
                                                : test::from_values(exec, {1}, DType::f32,
                                                                    to_floats({loss.budget_scale}));
  const auto scalars = to_floats({p.c, p.b0});
  head_gate_backward(exec, {.dx_TD = dx,
                            .dw_D = dw,
                            .dscalars = dscalars,
                            .dout_TC = test::from_values(exec, TC, dtype, to_floats(loss.dout)),
                            .out_TC = test::from_values(exec, TC, dtype, to_floats(loss.out)),
                            .gate_T = test::from_values(exec, {p.T}, DType::f32, gate),
                            .active_groups_T = test::from_ints(exec, {p.T}, loss.active),
                            .x_TD = test::from_values(exec, TD, dtype, to_floats(p.x)),
                            .w_D = test::from_values(exec, {p.D}, DType::f32, to_floats(p.w)),
                            .scalars = test::from_values(exec, {2}, DType::f32, scalars),
                            .doc_start_T = test::from_ints(exec, {p.T}, p.doc_start),
                            .budget_scale = scale,
                            .budget = static_cast<float>(loss.budget),
                            .sequence = p.sequence,
                            .groups = p.groups,
                            .heads = p.heads,
                            .block = p.block,
                            .max_position = p.max_position,
                            .accumulate = accumulate});
  return {download_floats(exec, dx), download_floats(exec, dw), download_floats(exec, dscalars)};
}

GateLoss make_loss(const Exec& exec, const GateProblem& p, DType dtype, double budget_scale) {
  const Shape TC{p.T, p.heads * p.head_dim};
  GateLoss loss{.dout = to_doubles(download_floats(exec, test::normal(exec, TC, dtype, 3))),
                .out = to_doubles(download_floats(exec, test::normal(exec, TC, dtype, 4))),
                .active = {},
                .budget_scale = budget_scale,
                .budget = 0.5};
  for (std::int64_t t = 0; t < p.T; ++t) loss.active.push_back(p.active(t));
  return loss;
}

void expect_gradient(const Exec& exec, GateProblem p, DType dtype, double budget_scale,
                     Accumulate accumulate) {
  SCOPED_TRACE("T" + std::to_string(p.T) + " " + std::string{name(dtype)} + " budget " +
               std::to_string(budget_scale));
  p = make_problem(exec, p, dtype, 0.5F);
  const GateLoss loss = make_loss(exec, p, dtype, budget_scale);
  const Gradients got = backward(exec, p, loss, dtype, accumulate);
  Gradients want{
      .x = download_floats(exec, test::normal(exec, {p.T, p.D}, dtype, 9)), .w = {}, .scalars = {}};
  const double before = accumulate == Accumulate::add ? 2.0 : 0.0;
  for (std::size_t i = 0; i < p.x.size(); ++i) {
    want.x[i] = static_cast<float>(want.x[i] + slope(p, loss, p.x[i]));
  }
  for (double& x : p.w) want.w.push_back(static_cast<float>(before + slope(p, loss, x)));
  for (double* x : {&p.c, &p.b0}) {
    want.scalars.push_back(static_cast<float>(before + slope(p, loss, *x)));
  }
  const test::Tolerance tight{.relative = 2e-4, .global = 5e-5};  // sums cancel
  EXPECT_TRUE(test::all_near(got.x, want.x, dtype == DType::f32 ? tight : test::tolerance(dtype)));
  EXPECT_TRUE(test::all_near(got.w, want.w, tight));
  EXPECT_TRUE(test::all_near(got.scalars, want.scalars, tight));
}

const GateProblem kSmall{.T = 40,
                         .D = 3,
                         .sequence = 20,
                         .block = 4,
                         .groups = 4,
                         .heads = 8,
                         .head_dim = 3,
                         .max_position = 20,
                         .doc_start = doc_starts({9, 11, 20}),
                         .c = 0.3,
                         .b0 = 0.2};

TEST_P(HeadGateBackwardTest, BackwardMatchesFiniteDifferencesOfTheRamp) {
  for (const double budget_scale : {0.0, 3.0}) {
    expect_gradient(exec_, kSmall, DType::f32, budget_scale, Accumulate::overwrite);
    expect_gradient(exec_, kSmall, DType::f32, budget_scale, Accumulate::add);
    expect_gradient(exec_, kSmall, DType::bf16, budget_scale, Accumulate::overwrite);
  }
  const GateProblem wide{.T = 66,
                         .D = 5,
                         .sequence = 33,
                         .block = 16,
                         .groups = 2,
                         .heads = 2,
                         .head_dim = 37,
                         .max_position = 64,
                         .doc_start = doc_starts({33, 33}),
                         .c = -0.3,
                         .b0 = 0.1};
  expect_gradient(exec_, wide, DType::f16, 2.0, Accumulate::overwrite);
}

TEST_P(HeadGateBackwardTest, LastActiveGroupAlwaysCarriesGradient) {
  GateProblem p = make_problem(exec_, kSmall, DType::f32, 0.5F);
  for (const double b0 : {-4.0, -1.0, -0.3, 0.0, 0.4, 1.2, 4.0}) {
    p.b0 = b0;
    GateLoss loss = make_loss(exec_, p, DType::f32, 0.0);
    std::fill(loss.dout.begin(), loss.dout.end(), 1.0);
    std::fill(loss.out.begin(), loss.out.end(), 1.0);
    const Gradients got = backward(exec_, p, loss, DType::f32, Accumulate::overwrite);
    // Each of the gated tokens adds width * G/2 * g (1 - g) to the gradient of b0.
    double want = 0.0;
    for (std::int64_t t = 0; t < p.T; ++t) {
      if (p.block_position(t) > 0) want += 6.0 * 2.0 * p.gate(t) * (1.0 - p.gate(t));
    }
    EXPECT_NEAR(got.scalars[1] / want, 1.0, 1e-5) << "b0 " << b0;
  }
}

TEST_P(HeadGateBackwardTest, OneBlockGivesNoGradient) {
  GateProblem p = make_problem(exec_, kSmall, DType::f32, 0.5F);
  p.block = 64;
  const GateLoss loss = make_loss(exec_, p, DType::f32, 3.0);
  const Gradients got = backward(exec_, p, loss, DType::f32, Accumulate::overwrite);
  EXPECT_EQ(got.w, std::vector<float>(3, 0.0F));
  EXPECT_EQ(got.scalars, std::vector<float>(2, 0.0F));
  EXPECT_EQ(got.x, download_floats(exec_, test::normal(exec_, {p.T, p.D}, DType::f32, 9)));
}

TEST_P(HeadGateBackwardTest, BackwardOfNoTokensWritesZeroParameterGradients) {
  GateProblem p = kSmall;
  p.T = 0;
  p.doc_start.clear();
  p.w = {1, 1, 1};
  const Gradients got = backward(exec_, p, {}, DType::f32, Accumulate::overwrite);
  EXPECT_EQ(got.w, std::vector<float>(3, 0.0F));
  EXPECT_EQ(got.scalars, std::vector<float>(2, 0.0F));
}

TEST_P(HeadGateBackwardTest, PlanCountsItsScratch) {
  const Exec real = test::make_exec(GetParam()), dry = Exec::dry(GetParam());
  const std::int64_t T = 500, D = 40;
  const Tensor T_f32 = test::from_values(real, {T}, DType::f32, std::vector<float>(T, 0.5F));
  const Tensor T_i32 = test::from_ints(real, {T}, std::vector<std::int32_t>(T));
  const Tensor TD = test::normal(real, {T, D}, DType::bf16, 1);
  const Tensor D_f32 = test::normal(real, {D}, DType::f32, 2);
  const Tensor scalars = test::normal(real, {2}, DType::f32, 3);
  for (const Exec* exec : {&real, &dry}) {
    head_gate_backward(*exec, {.dx_TD = TD,
                               .dw_D = D_f32,
                               .dscalars = scalars,
                               .dout_TC = TD,
                               .out_TC = TD,
                               .gate_T = T_f32,
                               .active_groups_T = T_i32,
                               .x_TD = TD,
                               .w_D = D_f32,
                               .scalars = scalars,
                               .doc_start_T = T_i32,
                               .sequence = T,
                               .groups = 4,
                               .heads = 4,
                               .block = 64,
                               .max_position = T});
    EXPECT_GT(exec->arena().plan().scratch, 0);
  }
  real.synchronize();
  EXPECT_EQ(real.arena().plan().scratch, dry.arena().plan().scratch);
}

TEST_P(HeadGateBackwardTest, RejectsTokensThatDoNotDivideIntoSequences) {
  GateProblem p = make_problem(exec_, kSmall, DType::f32, 0.5F);
  p.sequence = 7;
  EXPECT_THROW(
      backward(exec_, p, make_loss(exec_, p, DType::f32, 0.0), DType::f32, Accumulate::overwrite),
      Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, HeadGateBackwardTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
