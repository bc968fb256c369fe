// Dynamic heads whose groups are dealt over ranks: local counts and partial gradients add up.
#include "ops/both_devices.hpp"
#include "shoal/ops/head_gate.hpp"

namespace shoal::ops {
namespace {

using HeadGateShare = test::BothDevices;
using Floats = std::vector<float>;

constexpr std::int64_t kT = 40, kD = 3, kG = 4, kWidth = 3, kBlock = 4, kSequence = 20;

struct Result {
  std::vector<std::int32_t> active;
  Floats dx, dw, dscalars;
};

/// Columns of the groups of one rank of rows [T, G * width].
Floats columns(const Floats& rows, const GroupShare& share) {
  Floats out;
  for (std::int64_t t = 0; t < kT; ++t) {
    for (std::int64_t g = share.offset; g < kG; g += share.stride) {
      const auto begin = rows.begin() + (t * kG + g) * kWidth;
      out.insert(out.end(), begin, begin + kWidth);
    }
  }
  return out;
}

/// Forward and backward of the groups of one rank; the first rank has the budget term.
Result run(const Exec& exec, const GroupShare& share) {
  std::vector<std::int32_t> starts;
  for (std::int32_t t = 0; t < kT; ++t) starts.push_back(t < kSequence ? 0 : kSequence);
  const Tensor start_T = test::from_ints(exec, {kT}, starts);
  const Tensor x = test::normal(exec, {kT, kD}, DType::f32, 1);
  const Tensor w = test::normal(exec, {kD}, DType::f32, 2);
  const Tensor scalars = test::from_values(exec, {2}, DType::f32, {0.3F, 0.1F});
  const Tensor gate = test::poisoned(exec, {kT}, DType::f32);
  const Tensor score = test::poisoned(exec, {kT}, DType::f32);
  const Tensor active{exec.device(), {kT}, DType::i32};
  head_gate_forward(exec, {.gate_T = gate,
                           .active_groups_T = active,
                           .score_T = score,
                           .x_TD = x,
                           .w_D = w,
                           .scalars = scalars,
                           .doc_start_T = start_T,
                           .groups = kG,
                           .block = kBlock,
                           .max_position = kSequence,
                           .share = share});
  const std::int64_t local = kG / share.stride;
  const auto half = [&](std::uint64_t seed) {
    const Tensor all = test::normal(exec, {kT, kG * kWidth}, DType::f32, seed);
    return test::from_values(exec, {kT, local * kWidth}, DType::f32,
                             columns(download_floats(exec, all), share));
  };
  const Tensor dout = half(3), out = half(4);
  const Tensor dx = test::from_values(exec, {kT, kD}, DType::f32, Floats(kT * kD, 0.0F));
  const Tensor dw = test::poisoned(exec, {kD}, DType::f32);
  const Tensor dscalars = test::poisoned(exec, {2}, DType::f32);
  const Tensor scale = test::from_values(exec, {1}, DType::f32, {2.0F});
  head_gate_backward(
      exec, {.dx_TD = dx,
             .dw_D = dw,
             .dscalars = dscalars,
             .dout_TC = dout,
             .out_TC = out,
             .gate_T = gate,
             .active_groups_T = active,
             .x_TD = x,
             .w_D = w,
             .scalars = scalars,
             .doc_start_T = start_T,
             .budget_scale = share.offset == 0 ? ConstTensorView{scale} : ConstTensorView{},
             .budget = 0.4F,
             .sequence = kSequence,
             .groups = kG,
             .heads = local,
             .block = kBlock,
             .max_position = kSequence,
             .share = share});
  Result result{.active = std::vector<std::int32_t>(kT),
                .dx = download_floats(exec, dx),
                .dw = download_floats(exec, dw),
                .dscalars = download_floats(exec, dscalars)};
  download(exec, result.active.data(), active.view().bytes_begin(), active.view().bytes());
  exec.synchronize();
  return result;
}

TEST_P(HeadGateShare, DealtGroupsAddUpToAll) {
  const Result whole = run(exec_, {});
  for (const std::int64_t ranks : {2, 4}) {
    Result sum{.active = std::vector<std::int32_t>(kT),
               .dx = Floats(kT * kD),
               .dw = Floats(kD),
               .dscalars = Floats(2)};
    for (std::int64_t r = 0; r < ranks; ++r) {
      const Result part = run(exec_, {.stride = ranks, .offset = r});
      const auto add = [](auto& to, const auto& from) {
        for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
      };
      for (std::size_t t = 0; t < whole.active.size(); ++t) {
        std::int32_t expected = 0;
        for (std::int64_t g = r; g < whole.active[t]; g += ranks) ++expected;
        EXPECT_EQ(part.active[t], expected) << t;
      }
      add(sum.active, part.active);
      add(sum.dx, part.dx);
      add(sum.dw, part.dw);
      add(sum.dscalars, part.dscalars);
    }
    EXPECT_EQ(sum.active, whole.active);
    const test::Tolerance tight{.relative = 1e-5, .global = 1e-6};
    EXPECT_TRUE(test::all_near(sum.dx, whole.dx, tight));
    EXPECT_TRUE(test::all_near(sum.dw, whole.dw, tight));
    EXPECT_TRUE(test::all_near(sum.dscalars, whole.dscalars, tight));
  }
  EXPECT_NE(*std::min_element(whole.active.begin(), whole.active.end()), kG) << "some are off";
}

TEST_P(HeadGateShare, RefusesRanksThatDoNotDivideTheGroups) {
  EXPECT_THROW((void)run(exec_, {.stride = 3, .offset = 0}), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, HeadGateShare, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
