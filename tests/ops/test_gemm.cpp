#include "shoal/ops/gemm.hpp"

#include "ops/both_devices.hpp"

namespace shoal::ops {
namespace {

enum class Form { nt, nn, tn };

struct Case {
  std::int64_t rows, columns, inner;
  DType elem;
  DType c;
};

std::string text(const Case& x, Form form, Accumulate accumulate) {
  constexpr std::array<std::string_view, 3> kForms = {"nt", "nn", "tn"};
  return std::string{kForms.at(static_cast<std::size_t>(form))} + " " + std::to_string(x.rows) +
         "x" + std::to_string(x.columns) + "x" + std::to_string(x.inner) + " " +
         std::string{name(x.elem)} + " to " + std::string{name(x.c)} +
         (accumulate == Accumulate::add ? " add" : "");
}

void run(const Exec& exec, Form form, const Gemm& g) {
  if (form == Form::nt) gemm_nt(exec, g);
  if (form == Form::nn) gemm_nn(exec, g);
  if (form == Form::tn) gemm_tn(exec, g);
}

struct Operands {
  Tensor a, b, c;
};

Operands operands(const Exec& exec, const Case& x, Form form, Accumulate accumulate) {
  const Shape a = form == Form::tn ? Shape{x.inner, x.rows} : Shape{x.rows, x.inner};
  const Shape b = form == Form::nt ? Shape{x.columns, x.inner} : Shape{x.inner, x.columns};
  const Shape c{x.rows, x.columns};
  return {
      test::normal(exec, a, x.elem, 1), test::normal(exec, b, x.elem, 2),
      accumulate == Accumulate::add ? test::normal(exec, c, x.c, 3) : test::poisoned(exec, c, x.c)};
}

/// Plain loops in double precision.
std::vector<float> expected(const Exec& exec, const Case& x, Form form, const Operands& o,
                            Accumulate accumulate) {
  const auto a = download_floats(exec, o.a), b = download_floats(exec, o.b);
  auto c = download_floats(exec, o.c);
  const auto at = [](const std::vector<float>& v, std::int64_t i) {
    return double{v[static_cast<std::size_t>(i)]};
  };
  for (std::int64_t i = 0; i < x.rows; ++i) {
    for (std::int64_t j = 0; j < x.columns; ++j) {
      double sum = accumulate == Accumulate::add ? at(c, i * x.columns + j) : 0.0;
      for (std::int64_t k = 0; k < x.inner; ++k) {
        sum += at(a, form == Form::tn ? k * x.rows + i : i * x.inner + k) *
               at(b, form == Form::nt ? j * x.inner + k : k * x.columns + j);
      }
      c[static_cast<std::size_t>(i * x.columns + j)] = static_cast<float>(sum);
    }
  }
  return c;
}

using GemmTest = test::BothDevices;

TEST_P(GemmTest, MatchesPlainLoops) {
  const auto f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16;
  const std::vector<Case> cases = {
      {1, 1, 1, f32, f32},      {7, 31, 13, f32, f32},     {64, 128, 256, f32, f32},
      {257, 521, 33, f32, f32}, {3, 8, 0, f32, f32},       {0, 8, 4, f32, f32},
      {16, 32, 24, bf16, bf16}, {129, 65, 300, bf16, f32}, {130, 514, 257, bf16, bf16},
      {127, 64, 128, f16, f16}, {5, 9, 11, f16, f32},      {1, 4096, 64, bf16, f32},
      {300, 8, 64, bf16, f32},  {8, 24, 0, bf16, bf16},    {1, 1, 1, f16, f16},
  };
  for (const Case& x : cases) {
    for (const Form form : {Form::nt, Form::nn, Form::tn}) {
      for (const auto accumulate : {Accumulate::overwrite, Accumulate::add}) {
        const Operands o = operands(exec_, x, form, accumulate);
        const auto want = expected(exec_, x, form, o, accumulate);
        run(exec_, form, {.c = o.c, .a = o.a, .b = o.b, .accumulate = accumulate});
        EXPECT_TRUE(test::all_near(download_floats(exec_, o.c), want,
                                   test::tolerance(x.c, std::max<std::int64_t>(x.inner, 1))))
            << text(x, form, accumulate);
      }
    }
  }
}

TEST_P(GemmTest, SameBitsTwice) {
  for (const DType elem : {DType::f32, DType::bf16}) {
    const Case x{200, 264, 1000, elem, DType::f32};
    for (const Form form : {Form::nt, Form::nn, Form::tn}) {
      const Operands o = operands(exec_, x, form, Accumulate::overwrite);
      run(exec_, form, {.c = o.c, .a = o.a, .b = o.b});
      const auto first = download_floats(exec_, o.c);
      run(exec_, form, {.c = o.c, .a = o.a, .b = o.b});
      EXPECT_TRUE(test::all_equal(download_floats(exec_, o.c), first));
    }
  }
}

TEST_P(GemmTest, RefusesShapesThatDoNotMeet) {
  const Tensor a = test::normal(exec_, {4, 8}, DType::f32, 1);
  const Tensor b = test::normal(exec_, {6, 8}, DType::f32, 2);
  const Tensor c = test::poisoned(exec_, {4, 5}, DType::f32);
  EXPECT_THROW(gemm_nt(exec_, {.c = c, .a = a, .b = b}), Error);
  EXPECT_THROW(gemm_nn(exec_, {.c = c, .a = a, .b = b}), Error);
  EXPECT_THROW(gemm_tn(exec_, {.c = c, .a = a, .b = b}), Error);
}

TEST(GemmDry, CountsThePanelsOfTheRun) {
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const Shape shape{64, 64};
  const TensorView x = persistent(dry, shape, DType::bf16, MemoryKind::weights);
  gemm_nt(dry, {.c = x, .a = x, .b = x});
  const Exec exec{DeviceKind::cpu, dry.arena().plan()};
  const Tensor a = test::normal(exec, shape, DType::bf16, 1);
  const Tensor c = test::poisoned(exec, shape, DType::bf16);
  EXPECT_NO_THROW(gemm_nt(exec, {.c = c, .a = a, .b = a}));
  EXPECT_EQ(exec.arena().plan().scratch, dry.arena().plan().scratch);
}

INSTANTIATE_TEST_SUITE_P(Devices, GemmTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
