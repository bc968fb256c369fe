#include "shoal/ops/qk_norm_rope.hpp"

#include <cmath>

#include "ops/parity.hpp"
#include "support/finite_difference.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

constexpr std::int64_t kPositions = 11;

struct Case {
  std::int64_t T;
  HeadLayout layout;
  bool norm = true;
  [[nodiscard]] std::int64_t d() const { return layout.head_dim; }
  [[nodiscard]] std::int64_t heads() const { return layout.heads + layout.groups; }
};

/// Host values of every argument.
struct Inputs {
  Values qkv, dqk, q_weight, k_weight, rstd;
};
Inputs inputs(const Case& c, DType dtype) {
  return {.qkv = values(c.T * c.layout.qkv_columns(), 1, dtype),
          .dqk = values(c.T * c.layout.qk_columns(), 2, dtype),
          .q_weight = values(c.d(), 3, dtype),
          .k_weight = values(c.d(), 4, dtype),
          .rstd = {}};
}

/// The same on a device. Position of token t: 7t mod 11; the angles are any.
struct Device {
  Tensor qkv, dqk, q_weight, k_weight, rstd, cos, sin, position;
};
Device upload_inputs(const Exec& exec, DType elem, const Case& c, const Inputs& in) {
  Values cos, sin;
  for (std::int64_t i = 0; i < kPositions * c.d() / 2; ++i) {
    cos.push_back(std::cos(0.37F * static_cast<float>(i)));
    sin.push_back(std::sin(0.37F * static_cast<float>(i)));
  }
  std::vector<std::int32_t> position;
  for (std::int64_t t = 0; t < c.T; ++t) {
    position.push_back(static_cast<std::int32_t>(7 * t % kPositions));
  }
  Device device{
      .qkv = test::from_values(exec, {c.T, c.layout.qkv_columns()}, elem, in.qkv),
      .dqk = test::from_values(exec, {c.T, c.layout.qk_columns()}, elem, in.dqk),
      .cos = test::from_values(exec, {kPositions, c.d() / 2}, DType::f32, cos),
      .sin = test::from_values(exec, {kPositions, c.d() / 2}, DType::f32, sin),
      .position = test::from_ints(exec, {c.T}, position),
  };
  if (c.norm) {
    device.q_weight = test::from_values(exec, {c.d()}, elem, in.q_weight);
    device.k_weight = test::from_values(exec, {c.d()}, elem, in.k_weight);
    device.rstd = in.rstd.empty() ? test::poisoned(exec, {c.T, c.heads()}, DType::f32)
                                  : test::from_values(exec, {c.T, c.heads()}, DType::f32, in.rstd);
  }
  return device;
}

struct Rotated {
  Values qk, rstd;
};
Rotated forward(const Exec& exec, DType elem, const Case& c, const Inputs& in) {
  const Device x = upload_inputs(exec, elem, c, in);
  const Tensor qk = test::poisoned(exec, {c.T, c.layout.qk_columns()}, elem);
  qk_norm_rope_forward(exec, {.qk_TC = qk,
                              .rstd_TJ = x.rstd,
                              .qkv_TC = x.qkv,
                              .q_weight_d = x.q_weight,
                              .k_weight_d = x.k_weight,
                              .cos_PC = x.cos,
                              .sin_PC = x.sin,
                              .position_T = x.position,
                              .layout = c.layout,
                              .eps = 1e-3F});
  return {download_floats(exec, qk), c.norm ? download_floats(exec, x.rstd) : Values{}};
}

/// The value columns of dqkv must stay as they were: they come back as zeros here.
Values backward_input(const Exec& exec, DType elem, const Case& c, const Inputs& in) {
  const Device x = upload_inputs(exec, elem, c, in);
  const Tensor dqkv = test::poisoned(exec, {c.T, c.layout.qkv_columns()}, elem);
  qk_norm_rope_backward_input(exec, {.dqkv_TC = dqkv,
                                     .dqk_TC = x.dqk,
                                     .qkv_TC = x.qkv,
                                     .rstd_TJ = x.rstd,
                                     .q_weight_d = x.q_weight,
                                     .k_weight_d = x.k_weight,
                                     .cos_PC = x.cos,
                                     .sin_PC = x.sin,
                                     .position_T = x.position,
                                     .layout = c.layout});
  Values out = download_floats(exec, dqkv);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto column = static_cast<std::int64_t>(i) % c.layout.qkv_columns();
    if (column < c.layout.qk_columns()) continue;
    EXPECT_TRUE(std::isnan(out[i])) << "value column " << column << " was written";
    out[i] = 0.0F;
  }
  return out;
}

struct WeightGradients {
  Values q, k;
};
WeightGradients backward_weight(const Exec& exec, DType elem, const Case& c, const Inputs& in,
                                const Values& before = {}) {
  const Device x = upload_inputs(exec, elem, c, in);
  const auto target = [&] {
    return before.empty() ? test::poisoned(exec, {c.d()}, DType::f32)
                          : test::from_values(exec, {c.d()}, DType::f32, before);
  };
  const Tensor dq = target(), dk = target();
  qk_norm_rope_backward_weight(
      exec, {.dq_weight_d = dq,
             .dk_weight_d = dk,
             .dqk_TC = x.dqk,
             .qkv_TC = x.qkv,
             .rstd_TJ = x.rstd,
             .cos_PC = x.cos,
             .sin_PC = x.sin,
             .position_T = x.position,
             .layout = c.layout,
             .accumulate = before.empty() ? Accumulate::overwrite : Accumulate::add});
  return {download_floats(exec, dq), download_floats(exec, dk)};
}

TEST(QkNormRope, MatchesTheFormula) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  for (const bool norm : {true, false}) {
    const Case c{3, {.heads = 2, .groups = 1, .head_dim = 6}, norm};
    const Inputs in = inputs(c, DType::f32);
    Values want;
    for (std::size_t head = 0; head < 9; ++head) {
      const std::size_t t = head / 3, j = head % 3;
      const float* x = in.qkv.data() + t * 24 + j * 6;
      double square = 0.0;
      for (std::size_t i = 0; i < 6; ++i) square += double{x[i]} * x[i];
      const auto scaled = [&](std::size_t i) {
        const double w = j < 2 ? in.q_weight[i] : in.k_weight[i];
        return norm ? x[i] * w / std::sqrt(square / 6.0 + 1e-3) : x[i];
      };
      for (std::size_t i = 0; i < 6; ++i) {
        const double angle = 0.37 * static_cast<double>(7 * t % 11 * 3 + i % 3);
        const double other = i < 3 ? -scaled(i + 3) : scaled(i - 3);
        want.push_back(static_cast<float>(scaled(i) * std::cos(angle) + other * std::sin(angle)));
      }
    }
    EXPECT_TRUE(test::all_near(forward(exec, DType::f32, c, in).qk, want,
                               {.relative = 5e-6, .global = 5e-6}));  // cosines of fp32 angles
  }
}

TEST(QkNormRope, BackwardIsTheGradient) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  for (const bool norm : {true, false}) {
    const Case c{2, {.heads = 2, .groups = 1, .head_dim = 4}, norm};
    Inputs in = inputs(c, DType::f32);
    in.rstd = forward(exec, DType::f32, c, in).rstd;
    const auto with = [&](Values Inputs::*member) {
      return [&, member](const Values& v) {
        Inputs now = in;
        now.*member = v;
        return test::weighted_sum(forward(exec, DType::f32, c, now).qk, in.dqk);
      };
    };
    EXPECT_TRUE(test::gradient_matches(with(&Inputs::qkv), in.qkv,
                                       backward_input(exec, DType::f32, c, in)));
    if (!norm) continue;
    const WeightGradients dw = backward_weight(exec, DType::f32, c, in);
    EXPECT_TRUE(test::gradient_matches(with(&Inputs::q_weight), in.q_weight, dw.q));
    EXPECT_TRUE(test::gradient_matches(with(&Inputs::k_weight), in.k_weight, dw.k));
  }
}

using QkNormRopeParity = test::Parity;

TEST_P(QkNormRopeParity, MatchesTheCpuInFp32) {
  for (const Case& c : {Case{0, {2, 1, 8}}, Case{1, {1, 1, 2}}, Case{3, {3, 1, 62}},
                        Case{5, {4, 2, 64}}, Case{67, {2, 2, 66}}, Case{131, {8, 2, 128}},
                        Case{3, {1, 1, 258}}, Case{7, {4, 2, 32}, false}}) {
    SCOPED_TRACE("T " + std::to_string(c.T) + " d " + std::to_string(c.d()));
    Inputs in = inputs(c, dtype_);
    const Rotated want = forward(oracle_, DType::f32, c, in);
    const Rotated got = forward(exec_, dtype_, c, in);
    EXPECT_TRUE(test::all_near(got.qk, want.qk, test::tolerance(dtype_)));
    EXPECT_TRUE(test::all_near(got.rstd, want.rstd, test::tolerance(DType::f32, c.d())));
    in.rstd = want.rstd;
    EXPECT_TRUE(test::all_near(backward_input(exec_, dtype_, c, in),
                               backward_input(oracle_, DType::f32, c, in),
                               test::tolerance(dtype_)));
    if (!c.norm) continue;
    const WeightGradients dw = backward_weight(exec_, dtype_, c, in);
    const WeightGradients want_dw = backward_weight(oracle_, DType::f32, c, in);
    const auto tolerance = test::tolerance(DType::f32, c.T * c.layout.heads);
    EXPECT_TRUE(test::all_near(dw.q, want_dw.q, tolerance));
    EXPECT_TRUE(test::all_near(dw.k, want_dw.k, tolerance));
  }
}

TEST_P(QkNormRopeParity, WeightGradientsOverwriteOrAdd) {
  const Case c{5, {2, 1, 8}};
  Inputs in = inputs(c, dtype_);
  in.rstd = values(c.T * c.heads(), 5);
  const Values before = values(8, 6);
  const WeightGradients alone = backward_weight(exec_, dtype_, c, in);
  const WeightGradients added = backward_weight(exec_, dtype_, c, in, before);
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(added.q[i], alone.q[i] + before[i], 1e-5F);
    EXPECT_NEAR(added.k[i], alone.k[i] + before[i], 1e-5F);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, QkNormRopeParity, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
