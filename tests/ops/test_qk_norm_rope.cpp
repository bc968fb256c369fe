#include "shoal/ops/qk_norm_rope.hpp"

#include <cmath>
#include <limits>

#include "ops/parity.hpp"
#include "shoal/ops/partials.hpp"
#include "support/finite_difference.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

constexpr std::int64_t kPositions = 11;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

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

struct Gradients {
  Values dqkv, dq_weight, dk_weight;
};
/// The value columns of dqkv must stay as they were: they come back as zeros here.
Gradients backward(const Exec& exec, DType elem, const Case& c, const Inputs& in,
                   const Values& before = {}) {
  const Device x = upload_inputs(exec, elem, c, in);
  const std::int64_t narrow = c.layout.qk_columns(), wide = c.layout.qkv_columns();
  Values packed(static_cast<std::size_t>(c.T * wide), kNan);
  for (std::int64_t i = 0; i < c.T * narrow; ++i) {
    packed[static_cast<std::size_t>(i / narrow * wide + i % narrow)] =
        in.dqk[static_cast<std::size_t>(i)];
  }
  const Tensor dqkv = test::from_values(exec, {c.T, wide}, elem, packed);
  const Shape parts{part_count(c.T), c.d()};
  const Tensor q_part = c.norm ? test::poisoned(exec, parts, DType::f32) : Tensor{};
  const Tensor k_part = c.norm ? test::poisoned(exec, parts, DType::f32) : Tensor{};
  qk_norm_rope_backward(exec, {.dqkv_TC = dqkv,
                               .q_part_Pd = q_part,
                               .k_part_Pd = k_part,
                               .qkv_TC = x.qkv,
                               .rstd_TJ = x.rstd,
                               .q_weight_d = x.q_weight,
                               .k_weight_d = x.k_weight,
                               .cos_PC = x.cos,
                               .sin_PC = x.sin,
                               .position_T = x.position,
                               .layout = c.layout});
  Gradients out{.dqkv = download_floats(exec, dqkv), .dq_weight = {}, .dk_weight = {}};
  for (std::size_t i = 0; i < out.dqkv.size(); ++i) {
    const auto column = static_cast<std::int64_t>(i) % wide;
    if (column < narrow) continue;
    EXPECT_TRUE(std::isnan(out.dqkv[i])) << "value column " << column << " was written";
    out.dqkv[i] = 0.0F;
  }
  if (!c.norm) return out;
  const auto sum = [&](const Tensor& part) {
    const Tensor dw = before.empty() ? test::poisoned(exec, {c.d()}, DType::f32)
                                     : test::from_values(exec, {c.d()}, DType::f32, before);
    sum_parts(exec, dw, part, before.empty() ? Accumulate::overwrite : Accumulate::add);
    return download_floats(exec, dw);
  };
  out.dq_weight = sum(q_part);
  out.dk_weight = sum(k_part);
  return out;
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
    const Gradients got = backward(exec, DType::f32, c, in);
    EXPECT_TRUE(test::gradient_matches(with(&Inputs::qkv), in.qkv, got.dqkv));
    if (!norm) continue;
    EXPECT_TRUE(test::gradient_matches(with(&Inputs::q_weight), in.q_weight, got.dq_weight));
    EXPECT_TRUE(test::gradient_matches(with(&Inputs::k_weight), in.k_weight, got.dk_weight));
  }
}

using QkNormRopeParity = test::Parity;

TEST_P(QkNormRopeParity, MatchesTheCpuInFp32) {
  for (const Case& c :
       {Case{0, {2, 1, 8}}, Case{1, {1, 1, 2}}, Case{3, {3, 1, 62}}, Case{5, {4, 2, 64}},
        Case{67, {2, 2, 66}}, Case{131, {8, 2, 128}}, Case{29, {3, 1, 96}}, Case{37, {5, 1, 40}},
        Case{2053, {3, 1, 64}}, Case{3, {1, 1, 258}}, Case{2, {1, 1, 512}},
        Case{7, {4, 2, 32}, false}, Case{101, {3, 3, 128}, false}}) {
    SCOPED_TRACE("T " + std::to_string(c.T) + " d " + std::to_string(c.d()));
    Inputs in = inputs(c, dtype_);
    const Rotated want = forward(oracle_, DType::f32, c, in);
    const Rotated got = forward(exec_, dtype_, c, in);
    EXPECT_TRUE(test::all_near(got.qk, want.qk, test::tolerance(dtype_)));
    EXPECT_TRUE(test::all_near(got.rstd, want.rstd, test::tolerance(DType::f32, c.d())));
    in.rstd = want.rstd;
    const Gradients back = backward(exec_, dtype_, c, in);
    const Gradients want_back = backward(oracle_, DType::f32, c, in);
    EXPECT_TRUE(test::all_near(back.dqkv, want_back.dqkv, test::tolerance(dtype_)));
    const auto tolerance = test::tolerance(DType::f32, c.T * c.layout.heads);
    EXPECT_TRUE(test::all_near(back.dq_weight, want_back.dq_weight, tolerance));
    EXPECT_TRUE(test::all_near(back.dk_weight, want_back.dk_weight, tolerance));
  }
}

TEST_P(QkNormRopeParity, WeightGradientsOverwriteOrAdd) {
  const Case c{5, {2, 1, 8}};
  Inputs in = inputs(c, dtype_);
  in.rstd = values(c.T * c.heads(), 5);
  const Values before = values(8, 6);
  const Gradients alone = backward(exec_, dtype_, c, in);
  const Gradients added = backward(exec_, dtype_, c, in, before);
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(added.dq_weight[i], alone.dq_weight[i] + before[i], 1e-5F);
    EXPECT_NEAR(added.dk_weight[i], alone.dk_weight[i] + before[i], 1e-5F);
  }
}

TEST_P(QkNormRopeParity, TwoRunsGiveTheSameBits) {
  const Case c{1031, {4, 2, 64}};
  Inputs in = inputs(c, dtype_);
  in.rstd = values(c.T * c.heads(), 5);
  const Gradients first = backward(exec_, dtype_, c, in), second = backward(exec_, dtype_, c, in);
  EXPECT_TRUE(test::all_equal(first.dqkv, second.dqkv));
  EXPECT_TRUE(test::all_equal(first.dq_weight, second.dq_weight));
  EXPECT_TRUE(test::all_equal(first.dk_weight, second.dk_weight));
}

INSTANTIATE_TEST_SUITE_P(Variants, QkNormRopeParity, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
