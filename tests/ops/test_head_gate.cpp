#include "shoal/ops/head_gate.hpp"

#include <numeric>

#include "ops/both_devices.hpp"
#include "ops/head_gate_reference.hpp"

namespace shoal::ops {
namespace {

using test::doc_starts;
using test::GateProblem;
using test::make_problem;
using test::to_floats;

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

TEST_P(HeadGateTest, PlanCountsItsScratch) {
  const Exec real = test::make_exec(GetParam()), dry = Exec::dry(GetParam());
  const Tensor x = test::normal(real, {300, 8}, DType::f32, 1);
  const Tensor w = test::normal(real, {8}, DType::f32, 2);
  const Tensor scalars = test::normal(real, {2}, DType::f32, 3);
  const Tensor doc_start = test::from_ints(real, {300}, doc_starts({300}));
  const Tensor gate = test::poisoned(real, {300}, DType::f32);
  const Tensor score = test::poisoned(real, {300}, DType::f32);
  const Tensor active = test::poisoned(real, {300}, DType::i32);
  for (const Exec* exec : {&real, &dry}) {
    head_gate_forward(*exec, {.gate_T = gate,
                              .active_groups_T = active,
                              .score_T = score,
                              .x_TD = x,
                              .w_D = w,
                              .scalars = scalars,
                              .doc_start_T = doc_start});
  }
  real.synchronize();
  EXPECT_EQ(real.arena().plan().scratch, dry.arena().plan().scratch);
}

INSTANTIATE_TEST_SUITE_P(Devices, HeadGateTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
