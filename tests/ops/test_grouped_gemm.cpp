#include "ops/both_devices.hpp"
#include "shoal/ops/gemm.hpp"

namespace shoal::ops {
namespace {

enum class Form { nt, nn, tn };

struct Case {
  std::vector<std::int32_t> tokens;  // of each expert
  std::int64_t spare = 0;            // rows beyond the last expert's
  std::int64_t n = 0, k = 0;
  DType elem = DType::f32;
  DType c = DType::f32;

  [[nodiscard]] auto experts() const { return static_cast<std::int64_t>(tokens.size()); }
  [[nodiscard]] std::vector<std::int32_t> offsets() const {
    std::vector<std::int32_t> sums{0};
    for (const std::int32_t count : tokens) sums.push_back(sums.back() + count);
    return sums;
  }
  [[nodiscard]] std::int64_t rows() const { return offsets().back() + spare; }
};

std::vector<Case> cases() {
  const auto f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16;
  return {
      {{3}, 0, 5, 7, f32, f32},
      {{1, 0, 2}, 1, 8, 16, f32, f32},
      {{0, 0, 0}, 4, 8, 8, f32, f32},
      {{0, 257, 0, 0}, 3, 40, 24, f32, f32},
      {{65, 1, 129, 0, 31}, 17, 136, 72, bf16, bf16},
      {{65, 1, 129, 0, 31}, 17, 136, 72, bf16, f32},
      {{0, 0, 300, 0}, 5, 264, 200, bf16, bf16},
      {{7, 0, 13}, 2, 30, 17, bf16, bf16},
      {{128, 128, 64}, 0, 128, 64, f16, f16},
      {{0, 0}, 7, 64, 64, bf16, bf16},
      {{33, 0, 64}, 9, 256, 8, f16, f32},
      {{1, 1, 1, 1, 0, 1, 2, 1}, 0, 48, 80, bf16, bf16},
      {{100, 5}, 1, 12, 20, f16, f16},
      // Around the tiles of 128 rows, 128 or 256 columns and 64 inner indices.
      {{128, 0, 127, 129, 1}, 3, 64, 256, bf16, bf16},
      {{256}, 0, 136, 328, f16, f16},
      {{63, 64, 65, 0}, 1, 312, 72, bf16, bf16},
  };
}

struct Operands {
  Tensor a, b, c, offsets;
};

Operands operands(const Exec& exec, const Case& x, Form form, Accumulate accumulate) {
  const std::int64_t E = x.experts(), R = x.rows();
  const Shape a{R, form == Form::nt ? x.k : x.n};
  const Shape b = form == Form::tn ? Shape{R, x.k} : Shape{E, x.n, x.k};
  const Shape c = form == Form::tn   ? Shape{E, x.n, x.k}
                  : form == Form::nt ? Shape{R, x.n}
                                     : Shape{R, x.k};
  const DType c_dtype = form == Form::tn ? DType::f32 : x.c;
  Operands o{test::normal(exec, a, x.elem, 1), test::normal(exec, b, x.elem, 2),
             accumulate == Accumulate::add ? test::normal(exec, c, c_dtype, 3)
                                           : test::poisoned(exec, c, c_dtype),
             test::from_ints(exec, {E + 1}, x.offsets())};
  // Rows that no expert owns hold NaN: reading one would show.
  const std::int64_t used = x.offsets().back();
  const Tensor nan = test::poisoned(exec, {x.spare, std::max(a[1], x.k)}, x.elem);
  const auto spoil = [&](const TensorView& rows) {
    const TensorView tail = rows.rows(used, x.spare);
    copy(exec, tail.bytes_begin(), nan.view().bytes_begin(), tail.bytes());
  };
  spoil(o.a);
  if (form == Form::tn) spoil(o.b);
  exec.synchronize();
  return o;
}

void run(const Exec& exec, Form form, const Operands& o, Accumulate accumulate) {
  const GroupedGemm g{
      .c = o.c, .a = o.a, .b = o.b, .offsets_E1 = o.offsets, .accumulate = accumulate};
  if (form == Form::nt) grouped_gemm_nt(exec, g);
  if (form == Form::nn) grouped_gemm_nn(exec, g);
  if (form == Form::tn) grouped_gemm_tn(exec, g);
}

double value(const std::vector<float>& v, std::int64_t i) {
  return v[static_cast<std::size_t>(i)];
}

/// Plain loops in double precision; rows beyond the last expert's stay as they are.
std::vector<float> expected(const Exec& exec, const Case& x, Form form, const Operands& o,
                            Accumulate accumulate) {
  const auto a = download_floats(exec, o.a), b = download_floats(exec, o.b);
  auto c = download_floats(exec, o.c);
  const auto offset = x.offsets();
  const auto set = [&](std::int64_t i, double sum) {
    const double before = accumulate == Accumulate::add ? value(c, i) : 0.0;
    c[static_cast<std::size_t>(i)] = static_cast<float>(before + sum);
  };
  const std::int64_t width = form == Form::nt ? x.n : x.k;
  for (std::int64_t e = 0; e < x.experts(); ++e) {
    const std::int64_t begin = offset[static_cast<std::size_t>(e)];
    const std::int64_t end = offset[static_cast<std::size_t>(e) + 1];
    for (std::int64_t r = begin; r < end && form != Form::tn; ++r) {
      for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t inner = form == Form::nt ? x.k : x.n;
        double sum = 0.0;
        for (std::int64_t i = 0; i < inner; ++i) {
          const std::int64_t n = form == Form::nt ? j : i, k = form == Form::nt ? i : j;
          sum += value(a, r * inner + i) * value(b, (e * x.n + n) * x.k + k);
        }
        set(r * width + j, sum);
      }
    }
    for (std::int64_t n = 0; n < x.n && form == Form::tn; ++n) {
      for (std::int64_t k = 0; k < x.k; ++k) {
        double sum = 0.0;
        for (std::int64_t r = begin; r < end; ++r)
          sum += value(a, r * x.n + n) * value(b, r * x.k + k);
        set((e * x.n + n) * x.k + k, sum);
      }
    }
  }
  return c;
}

/// Splits off rows that nobody may write; all_near cannot compare NaN with NaN.
void expect_result(const Exec& exec, const Case& x, Form form, const Tensor& c,
                   const std::vector<float>& want) {
  const auto got = download_floats(exec, c);
  const std::int64_t width = c.shape().back();
  const auto used = static_cast<std::ptrdiff_t>(form == Form::tn ? c.shape().elements()
                                                                 : x.offsets().back() * width);
  const std::int64_t reduction = form == Form::nt ? x.k : form == Form::nn ? x.n : x.rows();
  EXPECT_TRUE(test::all_near({got.begin(), got.begin() + used}, {want.begin(), want.begin() + used},
                             test::tolerance(c.dtype(), reduction)));
  EXPECT_TRUE(test::all_equal({got.begin() + used, got.end()}, {want.begin() + used, want.end()}));
}

using GroupedGemmTest = test::BothDevices;

TEST_P(GroupedGemmTest, MatchesPlainLoops) {
  int index = 0;
  for (const Case& x : cases()) {
    for (const Form form : {Form::nt, Form::nn, Form::tn}) {
      for (const auto accumulate : {Accumulate::overwrite, Accumulate::add}) {
        SCOPED_TRACE("case " + std::to_string(index) + " form " +
                     std::to_string(static_cast<int>(form)) + " accumulate " +
                     std::to_string(static_cast<int>(accumulate)));
        const Operands o = operands(exec_, x, form, accumulate);
        const auto want = expected(exec_, x, form, o, accumulate);
        run(exec_, form, o, accumulate);
        expect_result(exec_, x, form, o.c, want);
      }
    }
    ++index;
  }
}

TEST_P(GroupedGemmTest, SameBitsTwice) {
  for (const DType elem : {DType::f32, DType::bf16}) {
    const Case x{{200, 0, 77, 300}, 0, 136, 264, elem, elem};
    for (const Form form : {Form::nt, Form::nn, Form::tn}) {
      const Operands o = operands(exec_, x, form, Accumulate::overwrite);
      run(exec_, form, o, Accumulate::overwrite);
      const auto first = download_floats(exec_, o.c);
      run(exec_, form, o, Accumulate::overwrite);
      EXPECT_TRUE(test::all_equal(download_floats(exec_, o.c), first));
    }
  }
}

TEST_P(GroupedGemmTest, RefusesOffsetsOfAnotherNumberOfExperts) {
  const Tensor rows = test::normal(exec_, {6, 8}, DType::f32, 1);
  const Tensor weights = test::normal(exec_, {3, 8, 8}, DType::f32, 2);
  const Tensor offsets = test::from_ints(exec_, {3}, {0, 2, 6});
  EXPECT_THROW(grouped_gemm_nt(exec_, {.c = rows, .a = rows, .b = weights, .offsets_E1 = offsets}),
               Error);
  EXPECT_THROW(grouped_gemm_tn(exec_, {.c = weights, .a = rows, .b = rows, .offsets_E1 = offsets}),
               Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, GroupedGemmTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
