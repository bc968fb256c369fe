#include "shoal/ops/embedding.hpp"

#include "ops/parity.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;
using Tokens = std::vector<std::int32_t>;

struct Size {
  std::int64_t T, D, V;
};

/// Ids with long runs: about half of the tokens share id V / 2.
Tokens tokens(Size s) {
  Tokens ids;
  for (std::int64_t t = 0; t < s.T; ++t) {
    ids.push_back(static_cast<std::int32_t>(t % 2 == 0 ? s.V / 2 : t * t * 31 % s.V));
  }
  return ids;
}

Values forward(const Exec& exec, DType elem, Size s, const Values& table) {
  const Tensor x = test::poisoned(exec, {s.T, s.D}, elem);
  const Tensor token = test::from_ints(exec, {s.T}, tokens(s));
  const Tensor table_VD = test::from_values(exec, {s.V, s.D}, elem, table);
  embedding_forward(exec, {.x_TD = x, .token_T = token, .table_VD = table_VD});
  return download_floats(exec, x);
}

Values backward(const Exec& exec, DType elem, Size s, const Values& dx, const Values& before = {}) {
  const Shape shape{s.V, s.D};
  const Tensor dtable = before.empty() ? test::poisoned(exec, shape, DType::f32)
                                       : test::from_values(exec, shape, DType::f32, before);
  const Tensor dx_TD = test::from_values(exec, {s.T, s.D}, elem, dx);
  const Tensor token = test::from_ints(exec, {s.T}, tokens(s));
  embedding_backward(exec,
                     {.dtable_VD = dtable,
                      .dx_TD = dx_TD,
                      .token_T = token,
                      .accumulate = before.empty() ? Accumulate::overwrite : Accumulate::add});
  return download_floats(exec, dtable);
}

const std::vector<Size> kSizes = {{0, 8, 3},    {1, 1, 1},     {5, 31, 2},    {33, 33, 7},
                                  {97, 64, 50}, {700, 72, 13}, {64, 4104, 5}, {3000, 24, 70000},
                                  {31, 8, 1},   {32, 8, 1},    {1033, 12, 1}, {257, 2052, 3}};

using EmbeddingParity = test::Parity;

TEST_P(EmbeddingParity, CopiesRows) {
  for (const Size s : kSizes) {
    SCOPED_TRACE("T " + std::to_string(s.T) + " D " + std::to_string(s.D));
    const Values table = values(s.V * s.D, 1, dtype_);
    Values want;
    for (const std::int32_t id : tokens(s)) {
      const auto row = table.begin() + id * s.D;
      want.insert(want.end(), row, row + s.D);
    }
    EXPECT_TRUE(test::all_equal(forward(exec_, dtype_, s, table), want));
  }
}

/// before + the sum of dx over the tokens of each id, in the order that the header promises.
Values summed(const Exec& exec, Size s, const Values& dx, const Values& before) {
  constexpr std::size_t kPiece = 32;
  std::vector<std::vector<std::int64_t>> tokens_of(static_cast<std::size_t>(s.V));
  const Tokens ids = tokens(s);
  for (std::int64_t t = 0; t < s.T; ++t) {
    tokens_of[static_cast<std::size_t>(ids[static_cast<std::size_t>(t)])].push_back(t);
  }
  Values out = before;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto D = static_cast<std::size_t>(s.D);
    const auto& own = tokens_of[i / D];
    const auto value = [&](std::size_t n) {
      return dx[static_cast<std::size_t>(own[n]) * D + i % D];
    };
    const std::size_t pieces = exec.on_gpu() ? own.size() / kPiece : 0;
    for (std::size_t p = 0; p < pieces; ++p) {
      float piece = 0.0F;
      for (std::size_t n = p * kPiece; n < (p + 1) * kPiece; ++n) piece += value(n);
      out[i] += piece;
    }
    for (std::size_t n = pieces * kPiece; n < own.size(); ++n) out[i] += value(n);
  }
  return out;
}

TEST_P(EmbeddingParity, SumsGradientsInTokenOrder) {
  for (const Size s : kSizes) {
    SCOPED_TRACE("T " + std::to_string(s.T) + " D " + std::to_string(s.D));
    const Values dx = values(s.T * s.D, 1, dtype_), before = values(s.V * s.D, 2);
    const Values zeros(before.size(), 0.0F);
    // Bit for bit: the order of additions is part of the contract.
    EXPECT_TRUE(test::all_equal(backward(exec_, dtype_, s, dx), summed(exec_, s, dx, zeros)));
    EXPECT_TRUE(
        test::all_equal(backward(exec_, dtype_, s, dx, before), summed(exec_, s, dx, before)));
  }
}

TEST_P(EmbeddingParity, OfRowsOfOneRankLeavesOtherIdsOut) {
  for (const Size s : {Size{97, 64, 50}, {33, 33, 12}}) {
    const std::int64_t half = s.V / 2;
    const Values table = values(s.V * s.D, 1, dtype_), dx = values(s.T * s.D, 2, dtype_);
    const Values x = forward(exec_, dtype_, s, table), dtable = backward(exec_, dtype_, s, dx);
    Values x_sum(x.size(), 0.0F), dtable_parts;
    const Tensor token = test::from_ints(exec_, {s.T}, tokens(s));
    for (const std::int64_t first : {std::int64_t{0}, half}) {
      const Values rows(table.begin() + first * s.D, table.begin() + (first + half) * s.D);
      const Tensor part = test::poisoned(exec_, {s.T, s.D}, dtype_);
      embedding_forward(exec_, {.x_TD = part,
                                .token_T = token,
                                .table_VD = test::from_values(exec_, {half, s.D}, dtype_, rows),
                                .first_id = first});
      const Values got = download_floats(exec_, part);
      for (std::size_t i = 0; i < got.size(); ++i) x_sum[i] += got[i];
      const Tensor gradient = test::poisoned(exec_, {half, s.D}, DType::f32);
      embedding_backward(exec_, {.dtable_VD = gradient,
                                 .dx_TD = test::from_values(exec_, {s.T, s.D}, dtype_, dx),
                                 .token_T = token,
                                 .first_id = first});
      const Values part_gradient = download_floats(exec_, gradient);
      dtable_parts.insert(dtable_parts.end(), part_gradient.begin(), part_gradient.end());
    }
    EXPECT_TRUE(test::all_equal(x_sum, x));
    EXPECT_TRUE(test::all_equal(dtable_parts, dtable));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, EmbeddingParity, test::variants(), test::variant_name);

TEST(Embedding, ADryRunCountsTheSortOnTheGpuOnly) {
  const auto scratch_of = [](DeviceKind device) {
    const Exec dry = Exec::dry(device);
    const TensorView dtable = persistent(dry, {7, 4}, DType::f32, MemoryKind::gradients);
    const TensorView dx = persistent(dry, {900, 4}, DType::f32, MemoryKind::batch);
    const TensorView token = persistent(dry, {900}, DType::i32, MemoryKind::batch);
    embedding_backward(dry, {.dtable_VD = dtable, .dx_TD = dx, .token_T = token});
    return dry.arena().plan().scratch;
  };
  EXPECT_EQ(scratch_of(DeviceKind::cpu), 0);
  EXPECT_GT(scratch_of(DeviceKind::cuda), 4 * 900 * 4);
}

}  // namespace
}  // namespace shoal::ops
