#include "shoal/ops/head_gate.hpp"

#include <numeric>

#include "ops/both_devices.hpp"
#include "ops/head_gate_reference.hpp"

namespace shoal::ops {
namespace {

using test::GateLoss;
using test::GateProblem;

std::vector<double> to_doubles(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}
std::vector<float> to_floats(const std::vector<double>& x) {
  return {x.begin(), x.end()};
}

/// Start of each token's document for documents of these lengths laid end to end.
std::vector<std::int32_t> doc_starts(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> out;
  for (const std::int32_t length : lengths) {
    out.insert(out.end(), static_cast<std::size_t>(length), static_cast<std::int32_t>(out.size()));
  }
  return out;
}

/// The values are drawn in the precision of `dtype`, so that both sides see the same numbers.
GateProblem make_problem(const Exec& exec, GateProblem p, DType dtype, float spread) {
  p.x = to_doubles(download_floats(exec, test::normal(exec, {p.T, p.D}, dtype, 1, spread)));
  p.w = to_doubles(download_floats(exec, test::normal(exec, {p.D}, DType::f32, 2)));
  return p;
}

struct Gates {
  std::vector<float> gate, score;
  std::vector<std::int32_t> active;
};
Gates forward(const Exec& exec, const GateProblem& p, DType dtype = DType::f32) {
  const Tensor gate = test::poisoned(exec, {p.T}, DType::f32);
  const Tensor active = test::poisoned(exec, {p.T}, DType::i32);
  const Tensor score = test::poisoned(exec, {p.T}, DType::f32);
  const auto scalars = to_floats({p.c, p.b0});
  head_gate_forward(exec, {.gate_T = gate,
                           .active_groups_T = active,
                           .score_T = score,
                           .x_TD = test::from_values(exec, {p.T, p.D}, dtype, to_floats(p.x)),
                           .w_D = test::from_values(exec, {p.D}, DType::f32, to_floats(p.w)),
                           .scalars = test::from_values(exec, {2}, DType::f32, scalars),
                           .doc_start_T = test::from_ints(exec, {p.T}, p.doc_start),
                           .groups = p.groups,
                           .block = p.block,
                           .max_position = p.max_position});
  return {download_floats(exec, gate), download_floats(exec, score),
          download_as<std::int32_t>(exec, active)};
}

using HeadGateTest = test::BothDevices;

TEST_P(HeadGateTest, ValuesByHand) {
  const GateProblem p{.T = 7,
                      .D = 1,
                      .sequence = 7,
                      .block = 2,
                      .groups = 4,
                      .heads = 4,
                      .head_dim = 1,
                      .max_position = 7,
                      .doc_start = {0, 0, 0, 0, 0, 5, 5},
                      .x = {1, -2, 3, -4, 5, 6, 7},
                      .w = {0.5},
                      .c = 0.75,
                      .b0 = -0.25};
  const Gates got = forward(exec_, p);
  // Second block: mean of 0.5 and -1; l = log2(3)/log2(8). Third: mean of 0.5, -1, 1.5, -2.
  const double second = 1.0 / (1.0 + std::exp(-(-0.25 + 0.75 * std::log2(3.0) / 3.0 - 0.25)));
  const double third = 1.0 / (1.0 + std::exp(-(-0.25 + 0.75 * std::log2(5.0) / 3.0 - 0.25)));
  EXPECT_TRUE(test::all_near(got.gate, to_floats({1, 1, second, second, third, 1, 1}),
                             test::tolerance(DType::f32)));
  EXPECT_EQ(got.active, (std::vector<std::int32_t>{4, 4, 2, 2, 2, 4, 4}));
  EXPECT_EQ(got.score, (std::vector<float>{0.5, -1, 1.5, -2, 2.5, 3, 3.5}));
}

TEST_P(HeadGateTest, ForwardMatchesDoubleLoops) {
  const std::vector<GateProblem> cases = {
      {.T = 0,
       .D = 8,
       .sequence = 1,
       .block = 4,
       .groups = 2,
       .heads = 2,
       .head_dim = 1,
       .max_position = 16},
      {.T = 1,
       .D = 1,
       .sequence = 1,
       .block = 64,
       .groups = 1,
       .heads = 1,
       .head_dim = 1,
       .max_position = 1,
       .doc_start = doc_starts({1})},
      {.T = 257,
       .D = 31,
       .sequence = 257,
       .block = 64,
       .groups = 8,
       .heads = 8,
       .head_dim = 1,
       .max_position = 512,
       .doc_start = doc_starts({257}),
       .c = -0.5,
       .b0 = 0.3},
      {.T = 1024,
       .D = 40,
       .sequence = 512,
       .block = 16,
       .groups = 3,
       .heads = 6,
       .head_dim = 1,
       .max_position = 512,
       .doc_start = doc_starts({1, 16, 17, 300, 178, 511, 1}),
       .c = 1.0,
       .b0 = -0.4},
      {.T = 127,
       .D = 64,
       .sequence = 127,
       .block = 1,
       .groups = 5,
       .heads = 5,
       .head_dim = 1,
       .max_position = 127,
       .doc_start = doc_starts({100, 27}),
       .b0 = 0.1},
  };
  for (const GateProblem& shape : cases) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE("T" + std::to_string(shape.T) + " " + std::string{name(dtype)});
      const GateProblem p = make_problem(exec_, shape, dtype, 0.7F);
      const Gates got = forward(exec_, p, dtype);
      std::vector<float> gate;
      std::vector<std::int32_t> active;
      for (std::int64_t t = 0; t < p.T; ++t) {
        gate.push_back(static_cast<float>(p.gate(t)));
        active.push_back(p.active(t));
      }
      EXPECT_TRUE(test::all_near(got.gate, gate, test::tolerance(DType::f32, p.T)));
      EXPECT_EQ(got.active, active);
    }
  }
}

TEST_P(HeadGateTest, StartsWithAllGroupsActive) {
  GateProblem p{.T = 300,
                .D = 8,
                .sequence = 300,
                .block = 64,
                .groups = 6,
                .heads = 6,
                .head_dim = 1,
                .max_position = 300,
                .doc_start = doc_starts({300}),
                .b0 = std::log(4.0 * 6.0 - 1.0)};
  p = make_problem(exec_, p, DType::f32, 1.0F);
  std::fill(p.w.begin(), p.w.end(), 0.0);
  EXPECT_EQ(forward(exec_, p).active, std::vector<std::int32_t>(300, 6));
}

TEST_P(HeadGateTest, LaterTokensNeverChangeEarlierGates) {
  const GateProblem p = make_problem(exec_,
                                     {.T = 96,
                                      .D = 16,
                                      .sequence = 96,
                                      .block = 16,
                                      .groups = 8,
                                      .heads = 8,
                                      .head_dim = 1,
                                      .max_position = 96,
                                      .doc_start = doc_starts({70, 26}),
                                      .c = 0.2},
                                     DType::f32, 0.5F);
  const Gates before = forward(exec_, p);
  for (const std::int64_t from : {0, 1, 15, 16, 47, 69, 70, 95}) {
    GateProblem changed = p;
    for (std::int64_t i = from * p.D; i < p.T * p.D; ++i) changed.x[i] = 3.0 - changed.x[i];
    const Gates after = forward(exec_, changed);
    for (std::int64_t t = 0; t <= from; ++t) {  // token `from` itself does not count either
      EXPECT_EQ(after.gate[t], before.gate[t]) << "token " << t << ", changed from " << from;
    }
  }
}

TEST_P(HeadGateTest, DocumentsDoNotSeeEachOther) {
  const std::vector<std::int32_t> lengths = {33, 1, 62};
  const GateProblem all = make_problem(exec_,
                                       {.T = 96,
                                        .D = 16,
                                        .sequence = 96,
                                        .block = 8,
                                        .groups = 8,
                                        .heads = 8,
                                        .head_dim = 1,
                                        .max_position = 96,
                                        .doc_start = doc_starts(lengths),
                                        .c = 0.2},
                                       DType::f32, 0.5F);
  const Gates together = forward(exec_, all);
  std::int64_t begin = 0;
  for (const std::int32_t length : lengths) {
    GateProblem alone = all;
    alone.T = alone.sequence = length;
    alone.doc_start = doc_starts({length});
    alone.x.assign(all.x.begin() + begin * all.D, all.x.begin() + (begin + length) * all.D);
    const auto first = together.gate.begin() + begin;
    EXPECT_EQ(forward(exec_, alone).gate, std::vector<float>(first, first + length));
    begin += length;
  }
}

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

TEST_P(HeadGateTest, BackwardMatchesFiniteDifferencesOfTheRamp) {
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

TEST_P(HeadGateTest, LastActiveGroupAlwaysCarriesGradient) {
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

TEST_P(HeadGateTest, OneBlockGivesNoGradient) {
  GateProblem p = make_problem(exec_, kSmall, DType::f32, 0.5F);
  p.block = 64;
  const GateLoss loss = make_loss(exec_, p, DType::f32, 3.0);
  const Gradients got = backward(exec_, p, loss, DType::f32, Accumulate::overwrite);
  EXPECT_EQ(got.w, std::vector<float>(3, 0.0F));
  EXPECT_EQ(got.scalars, std::vector<float>(2, 0.0F));
  EXPECT_EQ(got.x, download_floats(exec_, test::normal(exec_, {p.T, p.D}, DType::f32, 9)));
}

TEST_P(HeadGateTest, BackwardOfNoTokensWritesZeroParameterGradients) {
  GateProblem p = kSmall;
  p.T = 0;
  p.doc_start.clear();
  p.w = {1, 1, 1};
  const Gradients got = backward(exec_, p, {}, DType::f32, Accumulate::overwrite);
  EXPECT_EQ(got.w, std::vector<float>(3, 0.0F));
  EXPECT_EQ(got.scalars, std::vector<float>(2, 0.0F));
}

TEST_P(HeadGateTest, RejectsTokensThatDoNotDivideIntoSequences) {
  GateProblem p = make_problem(exec_, kSmall, DType::f32, 0.5F);
  p.sequence = 7;
  EXPECT_THROW(
      backward(exec_, p, make_loss(exec_, p, DType::f32, 0.0), DType::f32, Accumulate::overwrite),
      Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, HeadGateTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
