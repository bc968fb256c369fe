// Logits split by columns over ranks against cross_entropy of the whole rows.
#include "shoal/ops/vocab_cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/parity.hpp"
#include "shoal/ops/cross_entropy.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

struct Size {
  std::int64_t T, V, ranks;
};
struct Result {
  Values loss, logits;
};

/// What all runs read: token t has target 7t mod V, every third token is masked.
struct Inputs {
  Inputs(const Exec& exec, Size s, float grad_scale) : mask_T{exec.device(), {s.T}, DType::u8} {
    std::vector<std::int32_t> target;
    std::vector<std::uint8_t> mask;
    for (std::int64_t t = 0; t < s.T; ++t) {
      target.push_back(static_cast<std::int32_t>(7 * t % s.V));
      mask.push_back(t % 3 != 2);
    }
    target_T = test::from_ints(exec, {s.T}, target);
    upload(exec, mask_T.view().bytes_begin(), mask.data(), s.T);
    exec.synchronize();
    if (grad_scale != 0.0F) scale = test::from_values(exec, {1}, DType::f32, {grad_scale});
  }
  Tensor target_T, mask_T, scale;
};

Result whole(const Exec& exec, Size s, const Values& logits, float grad_scale) {
  const Inputs in{exec, s, grad_scale};
  const Tensor loss = test::poisoned(exec, {s.T}, DType::f32);
  const Tensor logits_TV = test::from_values(exec, {s.T, s.V}, DType::f32, logits);
  cross_entropy(exec, {.loss_T = loss,
                       .logits_TV = logits_TV,
                       .target_T = in.target_T,
                       .mask_T = in.mask_T,
                       .grad_scale = in.scale});
  return {download_floats(exec, loss), download_floats(exec, logits_TV)};
}

/// Columns [first, first + count) of rows of V.
Values columns(const Values& rows, std::int64_t V, std::int64_t first, std::int64_t count) {
  Values out;
  for (auto row = rows.begin(); row != rows.end(); row += V) {
    out.insert(out.end(), row + first, row + first + count);
  }
  return out;
}

/// Every rank in turn; the losses of all ranks must be the same bits.
Result split(const Exec& exec, DType elem, Size s, const Values& logits, float grad_scale) {
  const Inputs in{exec, s, grad_scale};
  const std::int64_t V = s.V / s.ranks;
  const Tensor terms = test::poisoned(exec, {s.ranks, s.T, 3}, DType::f32);
  std::vector<Tensor> parts;
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    parts.push_back(test::from_values(exec, {s.T, V}, elem, columns(logits, s.V, r * V, V)));
    vocab_terms(exec, {.terms_T3 = terms.view().rows(r, 1).reshape({s.T, 3}),
                       .logits_TV = parts.back(),
                       .target_T = in.target_T,
                       .first_id = r * V});
  }
  Result result{.loss = {}, .logits = Values(logits.size())};
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    const Tensor loss = test::poisoned(exec, {s.T}, DType::f32);
    const Tensor& part = parts[static_cast<std::size_t>(r)];
    vocab_cross_entropy(exec, {.loss_T = loss,
                               .logits_TV = part,
                               .terms_RT3 = terms,
                               .target_T = in.target_T,
                               .mask_T = in.mask_T,
                               .grad_scale = in.scale,
                               .first_id = r * V});
    const Values got = download_floats(exec, loss), gradient = download_floats(exec, part);
    if (r == 0) result.loss = got;
    EXPECT_TRUE(test::all_equal(got, result.loss));
    for (std::int64_t t = 0; t < s.T; ++t) {
      std::copy_n(gradient.begin() + t * V, V, result.logits.begin() + t * s.V + r * V);
    }
  }
  return result;
}

void expect_equal(const Exec& exec, const Exec& oracle, DType elem, Size s) {
  SCOPED_TRACE("T " + std::to_string(s.T) + " V " + std::to_string(s.V) + " over " +
               std::to_string(s.ranks));
  const Values x = values(s.T * s.V, 1, elem, 3.0F);
  for (const float grad_scale : {0.0F, 0.5F}) {
    const Result want = whole(oracle, s, x, grad_scale), got = split(exec, elem, s, x, grad_scale);
    EXPECT_TRUE(test::all_near(got.loss, want.loss, test::tolerance(DType::f32, s.V)));
    if (grad_scale == 0.0F) {
      EXPECT_TRUE(test::all_equal(got.logits, x));
    } else {
      EXPECT_TRUE(test::all_near(got.logits, want.logits, test::tolerance(elem, s.V)));
    }
  }
}

const std::vector<Size> kSizes = {{0, 8, 2},   {1, 2, 2},    {5, 66, 2},   {7, 1024, 4},
                                  {3, 31, 31}, {300, 64, 4}, {2, 32000, 2}};

TEST(VocabCrossEntropy, OfSplitColumnsIsThatOfWholeRows) {
  const Exec exec = test::make_exec(DeviceKind::cpu);
  for (const Size s : kSizes) expect_equal(exec, exec, DType::f32, s);
}

using VocabCrossEntropyParity = test::Parity;

TEST_P(VocabCrossEntropyParity, MatchesWholeRowsOnTheCpuInFp32) {
  for (const Size s : kSizes) expect_equal(exec_, oracle_, dtype_, s);
}

TEST_P(VocabCrossEntropyParity, HandlesARankWhoseColumnsAreSwitchedOff) {
  const float off = -std::numeric_limits<float>::infinity();
  Values x = {20000.0F, -20000.0F, 20000.0F, off};
  x.resize(40, off);  // the second rank has nothing
  const Result got = split(exec_, dtype_, {1, 40, 2}, x, 1.0F);
  Values gradient(40, 0.0F);
  gradient[0] = -0.5F;
  gradient[2] = 0.5F;
  EXPECT_NEAR(got.loss.at(0), std::log(2.0), 1e-6);
  EXPECT_TRUE(test::all_near(got.logits, gradient, test::tolerance(dtype_)));
}

INSTANTIATE_TEST_SUITE_P(Variants, VocabCrossEntropyParity, test::variants(), test::variant_name);

}  // namespace
}  // namespace shoal::ops
