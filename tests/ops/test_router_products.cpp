#include "ops/parity.hpp"
#include "shoal/ops/router_products.hpp"

namespace shoal::ops {
namespace {

using Floats = std::vector<float>;

struct Case {
  std::int64_t T, D, E;
  [[nodiscard]] std::string text() const {
    return "T" + std::to_string(T) + " D" + std::to_string(D) + " E" + std::to_string(E);
  }
};

std::vector<Case> cases() {
  return {{0, 16, 4},    {1, 8, 1},     {2, 9, 5},      {3, 24, 3},      {61, 72, 8},
          {127, 64, 64}, {64, 128, 60}, {257, 520, 36}, {129, 136, 128}, {70, 1000, 256},
          {65, 40, 300}, {66, 64, 512}, {1100, 32, 12}, {2500, 136, 64}};
}

/// c[M, N] = sum over k of a(m, k) b(k, n), in double.
template <class A, class B>
Floats product(std::int64_t M, std::int64_t N, std::int64_t K, const A& a, const B& b) {
  Floats c;
  c.reserve(static_cast<std::size_t>(M * N));
  for (std::int64_t m = 0; m < M; ++m) {
    for (std::int64_t n = 0; n < N; ++n) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < K; ++k) sum += double{a(m, k)} * double{b(k, n)};
      c.push_back(static_cast<float>(sum));
    }
  }
  return c;
}
auto element(const Floats& x, std::int64_t columns) {
  return [&x, columns](std::int64_t i, std::int64_t j) {
    return x[static_cast<std::size_t>(i * columns + j)];
  };
}
auto transposed(const Floats& x, std::int64_t columns) {
  return [&x, columns](std::int64_t i, std::int64_t j) {
    return x[static_cast<std::size_t>(j * columns + i)];
  };
}

/// The router's products on every device and element type against double loops on the same values.
class RouterProducts : public test::Parity {
 protected:
  struct Problem {
    Tensor x, w, dlogits;
    Floats x_host, w_host, dlogits_host;
  };
  [[nodiscard]] Problem problem(const Case& c) const {
    Problem p{.x = test::normal(exec_, {c.T, c.D}, dtype_, 1),
              .w = test::normal(exec_, {c.E, c.D}, DType::f32, 2),
              .dlogits = test::normal(exec_, {c.T, c.E}, DType::f32, 3),
              .x_host = {},
              .w_host = {},
              .dlogits_host = {}};
    p.x_host = download_floats(exec_, p.x);
    p.w_host = download_floats(exec_, p.w);
    p.dlogits_host = download_floats(exec_, p.dlogits);
    return p;
  }
};

TEST_P(RouterProducts, LogitsMatchDoubleLoops) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.text());
    const Problem p = problem(c);
    const Tensor logits = test::poisoned(exec_, {c.T, c.E}, DType::f32);
    router_logits(exec_, {.logits_TE = logits, .x_TD = p.x, .w_ED = p.w});
    EXPECT_TRUE(
        test::all_near(download_floats(exec_, logits),
                       product(c.T, c.E, c.D, element(p.x_host, c.D), transposed(p.w_host, c.D)),
                       test::tolerance(DType::f32, c.D)));
  }
}

TEST_P(RouterProducts, InputGradientMatchesDoubleLoops) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.text());
    const Problem p = problem(c);
    const Tensor dx = test::poisoned(exec_, {c.T, c.D}, dtype_);
    router_input_gradient(exec_, {.dx_TD = dx, .dlogits_TE = p.dlogits, .w_ED = p.w});
    EXPECT_TRUE(
        test::all_near(download_floats(exec_, dx),
                       product(c.T, c.D, c.E, element(p.dlogits_host, c.E), element(p.w_host, c.D)),
                       test::tolerance(dtype_, c.E)));
  }
}

TEST_P(RouterProducts, WeightGradientMatchesDoubleLoops) {
  for (const Case& c : cases()) {
    const Problem p = problem(c);
    Floats want = product(c.E, c.D, c.T, transposed(p.dlogits_host, c.E), element(p.x_host, c.D));
    for (const auto accumulate : {Accumulate::overwrite, Accumulate::add}) {
      SCOPED_TRACE(c.text() + (accumulate == Accumulate::add ? " add" : ""));
      const bool add = accumulate == Accumulate::add;
      const Tensor dw = add ? test::normal(exec_, {c.E, c.D}, DType::f32, 4)
                            : test::poisoned(exec_, {c.E, c.D}, DType::f32);
      if (add) {
        const Floats before = download_floats(exec_, dw);
        for (std::size_t i = 0; i < want.size(); ++i) want[i] += before[i];
      }
      router_weight_gradient(
          exec_, {.dw_ED = dw, .dlogits_TE = p.dlogits, .x_TD = p.x, .accumulate = accumulate});
      EXPECT_TRUE(
          test::all_near(download_floats(exec_, dw), want, test::tolerance(DType::f32, c.T)));
    }
  }
}

TEST_P(RouterProducts, PlanCountsTheScratch) {
  const Case c{.T = 1500, .D = 64, .E = 8};
  const Exec real = test::make_exec(GetParam().device), dry = Exec::dry(GetParam().device);
  const Problem p = problem(c);
  const Tensor logits = test::poisoned(real, {c.T, c.E}, DType::f32);
  const Tensor dx = test::poisoned(real, {c.T, c.D}, dtype_);
  const Tensor dw = test::poisoned(real, {c.E, c.D}, DType::f32);
  for (const Exec* exec : {&real, &dry}) {
    router_logits(*exec, {.logits_TE = logits, .x_TD = p.x, .w_ED = p.w});
    router_input_gradient(*exec, {.dx_TD = dx, .dlogits_TE = p.dlogits, .w_ED = p.w});
    router_weight_gradient(*exec, {.dw_ED = dw, .dlogits_TE = p.dlogits, .x_TD = p.x});
  }
  real.synchronize();
  EXPECT_GT(dry.arena().plan().scratch, 0);
  EXPECT_EQ(real.arena().plan().scratch, dry.arena().plan().scratch);
}

INSTANTIATE_TEST_SUITE_P(Variants, RouterProducts, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
