#include "shoal/ops/attention.hpp"

#include <algorithm>
#include <cmath>

#include "ops/attention_reference.hpp"
#include "ops/both_devices.hpp"

namespace shoal::ops {
namespace {

using test::AttentionCase;
using test::AttentionResult;
using test::AttentionValues;

constexpr std::int64_t kMargin = 8;  // columns beside the heads that nobody may touch

/// Tensors of one problem, heads packed as the model packs them.
struct Problem {
  AttentionCase x;
  float scale;
  Tensor qk, v, dout, out, lse, dqk, dv, doc_start, active;

  [[nodiscard]] ConstHeads heads(const Tensor& rows, std::int64_t first, std::int64_t n) const {
    return {.rows = rows, .first = first, .heads = n, .head_dim = x.d};
  }
  [[nodiscard]] Heads heads_out(const Tensor& rows, std::int64_t first, std::int64_t n) const {
    return {.rows = rows, .first = first, .heads = n, .head_dim = x.d};
  }
  [[nodiscard]] ConstTensorView active_view() const {
    return x.active_groups.empty() ? ConstTensorView{} : ConstTensorView{active};
  }
};

Problem make_problem(const Exec& exec, const AttentionCase& x) {
  const std::int64_t q = x.H * x.d, k = x.G * x.d;
  const auto rows = [&](std::int64_t columns, std::uint64_t seed) {
    return test::normal(exec, {x.T, columns}, x.dtype, seed);
  };
  const auto fresh = [&](Shape shape, DType dtype) { return test::poisoned(exec, shape, dtype); };
  return {.x = x,
          .scale = 1.0F / std::sqrt(static_cast<float>(x.d)),
          .qk = rows(q + k, 1),
          .v = rows(k + kMargin, 2),
          .dout = rows(q, 3),
          .out = fresh({x.T, q + kMargin}, x.dtype),
          .lse = fresh({x.H, x.T}, DType::f32),
          .dqk = fresh({x.T, q + k}, x.dtype),
          .dv = fresh({x.T, k + kMargin}, x.dtype),
          .doc_start = test::from_ints(exec, {x.T}, x.doc_start_of_token()),
          .active = test::from_ints(exec, {static_cast<std::int64_t>(x.active_groups.size())},
                                    x.active_groups)};
}

void forward(const Exec& exec, const Problem& p) {
  attention_forward(exec, {.out = p.heads_out(p.out, kMargin, p.x.H),
                           .lse_HT = p.lse,
                           .q = p.heads(p.qk, 0, p.x.H),
                           .k = p.heads(p.qk, p.x.H * p.x.d, p.x.G),
                           .v = p.heads(p.v, kMargin, p.x.G),
                           .doc_start_T = p.doc_start,
                           .active_groups_T = p.active_view(),
                           .scale = p.scale});
}

void backward(const Exec& exec, const Problem& p) {
  attention_backward(exec, {.dq = p.heads_out(p.dqk, 0, p.x.H),
                            .dk = p.heads_out(p.dqk, p.x.H * p.x.d, p.x.G),
                            .dv = p.heads_out(p.dv, kMargin, p.x.G),
                            .dout = p.heads(p.dout, 0, p.x.H),
                            .out = p.heads(p.out, kMargin, p.x.H),
                            .q = p.heads(p.qk, 0, p.x.H),
                            .k = p.heads(p.qk, p.x.H * p.x.d, p.x.G),
                            .v = p.heads(p.v, kMargin, p.x.G),
                            .lse_HT = p.lse,
                            .doc_start_T = p.doc_start,
                            .active_groups_T = p.active_view(),
                            .scale = p.scale});
}

/// Columns [first, first + count) of all rows.
std::vector<float> columns(const Exec& exec, const Tensor& rows, std::int64_t first,
                           std::int64_t count) {
  const auto all = download_floats(exec, rows);
  const std::int64_t width = rows.shape()[1];
  std::vector<float> part;
  for (std::int64_t t = 0; t < rows.shape()[0]; ++t) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(t * width + first);
    part.insert(part.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
  }
  return part;
}

AttentionResult expected(const Exec& exec, const Problem& p) {
  const std::int64_t q = p.x.H * p.x.d, k = p.x.G * p.x.d;
  return attention_reference(p.x,
                             {.q = columns(exec, p.qk, 0, q),
                              .k = columns(exec, p.qk, q, k),
                              .v = columns(exec, p.v, kMargin, k),
                              .dout = columns(exec, p.dout, 0, q)},
                             p.scale);
}

/// The log-sum-exp of inactive pairs is not part of the contract: zero, as in the reference.
std::vector<float> active_lse(const Exec& exec, const Problem& p) {
  auto lse = download_floats(exec, p.lse);
  for (std::int64_t i = 0; i < p.x.H * p.x.T; ++i) {
    const std::int64_t group = i / p.x.T / (p.x.H / p.x.G);
    if (!p.x.active(i % p.x.T, group)) lse[static_cast<std::size_t>(i)] = 0.0F;
  }
  return lse;
}

/// Sums run over up to T keys; gradients add the rounding of P, dS and the saved output.
test::Tolerance tolerance(const AttentionCase& x, double slack) {
  const auto t = test::tolerance(x.dtype, std::max<std::int64_t>(x.T, x.d));
  return {t.relative * slack, t.global * slack};
}

/// Tokens that see only themselves have gradients of zero; then the scale of the inputs, one,
/// counts.
::testing::AssertionResult gradient_near(const std::vector<float>& got,
                                         const std::vector<float>& want, const AttentionCase& x) {
  const auto small = [](float bound) { return [bound](float v) { return std::abs(v) <= bound; }; };
  const test::Tolerance t = tolerance(x, 6.0);
  if (!std::all_of(want.begin(), want.end(), small(1e-12F))) return test::all_near(got, want, t);
  if (std::all_of(got.begin(), got.end(), small(static_cast<float>(t.relative)))) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << "expected zeros";
}

bool all_nan(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isnan(v); });
}

std::vector<std::int32_t> pattern(std::int64_t T, std::int32_t groups, std::int32_t block) {
  std::vector<std::int32_t> active;
  for (std::int32_t t = 0; t < T; ++t) active.push_back(1 + (t / block * 7 + 2) % groups);
  return active;
}

std::vector<AttentionCase> shapes(DType dtype) {
  return {
      {0, 2, 1, 16, dtype},
      {1, 1, 1, 16, dtype},
      {1, 4, 2, 64, dtype},
      {2, 2, 2, 32, dtype, {1}},
      {63, 2, 1, 32, dtype},
      {64, 1, 1, 64, dtype},
      {65, 4, 1, 16, dtype, {64}},
      {127, 2, 2, 128, dtype, {13, 14, 90}},
      {129, 4, 2, 64, dtype, {1, 64, 65, 128}},
      {200, 2, 1, 80, dtype, {100}},
      {257, 6, 3, 32, dtype, {31, 97, 250}, pattern(257, 3, 64)},
      {256, 8, 4, 16, dtype, {128}, pattern(256, 4, 64)},
      {192, 4, 4, 64, dtype, {}, pattern(192, 4, 1)},
      {331, 4, 2, 32, dtype, {64, 128, 192, 256}, std::vector<std::int32_t>(331, 1)},
      {70, 2, 2, 128, dtype, {}, pattern(70, 2, 5)},
      {67, 2, 1, 256, dtype, {5}},
      {40, 2, 1, 96, dtype, {5}},
      {33, 3, 1, 24, dtype, {5}},
  };
}

using AttentionTest = test::BothDevices;

std::string text(const AttentionCase& x) {
  return std::string{name(x.dtype)} + " T " + std::to_string(x.T) + " H " + std::to_string(x.H) +
         " G " + std::to_string(x.G) + " d " + std::to_string(x.d);
}

TEST_P(AttentionTest, ForwardMatchesPlainLoops) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const AttentionCase& x : shapes(dtype)) {
      SCOPED_TRACE(text(x));
      const Problem p = make_problem(exec_, x);
      forward(exec_, p);
      const AttentionResult want = expected(exec_, p);
      EXPECT_TRUE(
          test::all_near(columns(exec_, p.out, kMargin, x.H * x.d), want.out, tolerance(x, 2.0)));
      EXPECT_TRUE(test::all_near(active_lse(exec_, p), want.lse, {1e-5, 1e-5}));
      EXPECT_TRUE(all_nan(columns(exec_, p.out, 0, kMargin)));
    }
  }
}

TEST_P(AttentionTest, BackwardMatchesPlainLoops) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const AttentionCase& x : shapes(dtype)) {
      SCOPED_TRACE(text(x));
      const Problem p = make_problem(exec_, x);
      forward(exec_, p);
      backward(exec_, p);
      const AttentionResult want = expected(exec_, p);
      const std::int64_t q = x.H * x.d, k = x.G * x.d;
      EXPECT_TRUE(gradient_near(columns(exec_, p.dqk, 0, q), want.dq, x)) << "dq";
      EXPECT_TRUE(gradient_near(columns(exec_, p.dqk, q, k), want.dk, x)) << "dk";
      EXPECT_TRUE(gradient_near(columns(exec_, p.dv, kMargin, k), want.dv, x)) << "dv";
      EXPECT_TRUE(all_nan(columns(exec_, p.dv, 0, kMargin)));
    }
  }
}

TEST_P(AttentionTest, InactivePairsAreExactZeros) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const AttentionCase x{130, 4, 2, 32, dtype, {50}, std::vector<std::int32_t>(130, 1)};
    const Problem p = make_problem(exec_, x);
    forward(exec_, p);
    backward(exec_, p);
    const auto zeros = [](std::int64_t n) {
      return std::vector<float>(static_cast<std::size_t>(n), 0.0F);
    };
    const std::int64_t q = x.H * x.d, half = q / 2, k = x.d;
    EXPECT_TRUE(test::all_equal(columns(exec_, p.out, kMargin + half, half), zeros(x.T * half)));
    EXPECT_TRUE(test::all_equal(columns(exec_, p.dqk, half, half), zeros(x.T * half)));
    EXPECT_TRUE(test::all_equal(columns(exec_, p.dqk, q + k, k), zeros(x.T * k)));
    EXPECT_TRUE(test::all_equal(columns(exec_, p.dv, kMargin + k, k), zeros(x.T * k)));
  }
}

/// <dout, out> as a function of the inputs, in double.
double loss(const Exec& exec, const Problem& p) {
  forward(exec, p);
  const auto out = columns(exec, p.out, kMargin, p.x.H * p.x.d);
  const auto dout = columns(exec, p.dout, 0, p.x.H * p.x.d);
  double sum = 0.0;
  for (std::size_t i = 0; i < out.size(); ++i) sum += double{out[i]} * dout[i];
  return sum;
}

/// Derivative of the loss along `direction` of one input by central differences.
double slope(const Exec& exec, const Problem& p, const Tensor& input,
             const std::vector<float>& direction) {
  const auto at = download_floats(exec, input);
  const auto moved = [&](float step) {
    auto values = at;
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * direction[i];
    upload_values(exec, input.view(), values);
    return loss(exec, p);
  };
  constexpr float kStep = 1e-2F;
  const double difference = moved(kStep) - moved(-kStep);
  upload_values(exec, input.view(), at);
  return difference / (2.0 * kStep);
}

TEST_P(AttentionTest, BackwardMatchesFiniteDifferences) {
  const AttentionCase x{45, 4, 2, 16, DType::f32, {17}, pattern(45, 2, 8)};
  const Problem p = make_problem(exec_, x);
  forward(exec_, p);
  backward(exec_, p);
  const auto check = [&](const Tensor& input, const std::vector<float>& gradient) {
    for (std::uint64_t seed = 10; seed < 14; ++seed) {
      auto direction = download_floats(exec_, test::normal(exec_, input.shape(), DType::f32, seed));
      double want = 0.0, norm = 0.0;
      for (std::size_t i = 0; i < direction.size(); ++i) {
        if (std::isnan(gradient[i])) direction[i] = 0.0F;  // the margin beside the heads
        if (direction[i] == 0.0F) continue;
        want += double{gradient[i]} * direction[i];
        norm += std::pow(gradient[i], 2);
      }
      EXPECT_NEAR(slope(exec_, p, input, direction), want, 2e-3 * std::sqrt(norm));
    }
  };
  check(p.qk, download_floats(exec_, p.dqk));
  check(p.v, download_floats(exec_, p.dv));
}

TEST_P(AttentionTest, SameBitsTwice) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Problem p = make_problem(exec_, {300, 4, 2, 64, dtype, {70, 150}, pattern(300, 2, 64)});
    const auto run = [&] {
      forward(exec_, p);
      backward(exec_, p);
      auto all = columns(exec_, p.out, kMargin, p.x.H * p.x.d);
      const auto gradients = download_floats(exec_, p.dqk);
      all.insert(all.end(), gradients.begin(), gradients.end());
      const auto dv = columns(exec_, p.dv, kMargin, p.x.G * p.x.d);
      all.insert(all.end(), dv.begin(), dv.end());
      return all;
    };
    const auto first = run();
    EXPECT_TRUE(test::all_equal(run(), first));
  }
}

/// Generation in pieces must give what one forward pass gives.
TEST_P(AttentionTest, CachedEqualsFullForward) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const std::int64_t d : {16, 64, 80, 128}) {
      const AttentionCase x{131, 4, 2, d, dtype, {}, pattern(131, 2, 64)};
      const Problem p = make_problem(exec_, x);
      forward(exec_, p);
      const auto want = columns(exec_, p.out, kMargin, x.H * x.d);
      const Shape cache{140, x.G, x.d};
      const auto keys = columns(exec_, p.qk, x.H * x.d, x.G * x.d);
      const auto values = columns(exec_, p.v, kMargin, x.G * x.d);
      const auto padded = [&](std::vector<float> v) {
        v.resize(static_cast<std::size_t>(cache.elements()), std::nanf(""));
        return test::from_values(exec_, cache, dtype, v);
      };
      const Tensor k = padded(keys), v = padded(values);
      for (const auto& [first, count] : std::vector<std::pair<std::int64_t, std::int64_t>>{
               {0, 131}, {0, 1}, {130, 1}, {60, 70}, {64, 1}}) {
        SCOPED_TRACE(text(x) + " first " + std::to_string(first));
        const Tensor out = test::poisoned(exec_, {count, x.H * x.d}, dtype);
        const auto rows = [&](const Tensor& all) {
          return ConstTensorView{all}.rows(first, count);
        };
        attention_cached(exec_, {.out_TC = out,
                                 .q = {rows(p.qk), 0, x.H, x.d},
                                 .k_PGd = k,
                                 .v_PGd = v,
                                 .active_groups_T = rows(p.active),
                                 .first = first,
                                 .scale = p.scale});
        const auto begin = want.begin() + static_cast<std::ptrdiff_t>(first * x.H * x.d);
        EXPECT_TRUE(test::all_near(download_floats(exec_, out),
                                   {begin, begin + static_cast<std::ptrdiff_t>(count * x.H * x.d)},
                                   tolerance(x, 2.0)));
      }
    }
  }
}

TEST_P(AttentionTest, RefusesHeadsThatAreNoMultipleOfGroups) {
  Problem p = make_problem(exec_, {4, 2, 2, 16, DType::f32});
  p.x.H = 1;
  EXPECT_THROW(forward(exec_, p), Error);
}

TEST(AttentionDry, CountsWhatTheRunTakes) {
  const AttentionCase x{100, 2, 1, 16, DType::bf16};
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const Exec big = test::make_exec(DeviceKind::cpu);
  const Problem p = make_problem(big, x);
  forward(dry, p);
  backward(dry, p);
  const Exec exec{DeviceKind::cpu, dry.arena().plan()};
  EXPECT_NO_THROW(forward(exec, p));
  EXPECT_NO_THROW(backward(exec, p));
  EXPECT_EQ(exec.arena().plan().scratch, dry.arena().plan().scratch);
}

INSTANTIATE_TEST_SUITE_P(Devices, AttentionTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
