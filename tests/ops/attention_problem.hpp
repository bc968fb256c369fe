#pragma once
#include <algorithm>
#include <cmath>

#include "ops/attention_reference.hpp"
#include "shoal/ops/attention.hpp"
#include "support/tensors.hpp"

/// One attention problem as tensors, its calls, and how results are compared.
namespace shoal::ops {

using test::AttentionCase;
using test::AttentionResult;
using test::AttentionValues;

inline constexpr std::int64_t kMargin = 8;  // columns beside the heads that nobody may touch

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

inline Problem make_problem(const Exec& exec, const AttentionCase& x) {
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

inline void forward(const Exec& exec, const Problem& p) {
  attention_forward(exec, {.out = p.heads_out(p.out, kMargin, p.x.H),
                           .lse_HT = p.lse,
                           .q = p.heads(p.qk, 0, p.x.H),
                           .k = p.heads(p.qk, p.x.H * p.x.d, p.x.G),
                           .v = p.heads(p.v, kMargin, p.x.G),
                           .doc_start_T = p.doc_start,
                           .active_groups_T = p.active_view(),
                           .scale = p.scale});
}

inline void backward(const Exec& exec, const Problem& p) {
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
inline std::vector<float> columns(const Exec& exec, const Tensor& rows, std::int64_t first,
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

inline AttentionResult expected(const Exec& exec, const Problem& p) {
  const std::int64_t q = p.x.H * p.x.d, k = p.x.G * p.x.d;
  return attention_reference(p.x,
                             {.q = columns(exec, p.qk, 0, q),
                              .k = columns(exec, p.qk, q, k),
                              .v = columns(exec, p.v, kMargin, k),
                              .dout = columns(exec, p.dout, 0, q)},
                             p.scale);
}

/// The log-sum-exp of inactive pairs is not part of the contract: zero, as in the reference.
inline std::vector<float> active_lse(const Exec& exec, const Problem& p) {
  auto lse = download_floats(exec, p.lse);
  for (std::int64_t i = 0; i < p.x.H * p.x.T; ++i) {
    const std::int64_t group = i / p.x.T / (p.x.H / p.x.G);
    if (!p.x.active(i % p.x.T, group)) lse[static_cast<std::size_t>(i)] = 0.0F;
  }
  return lse;
}

/// Sums run over up to T keys; gradients add the rounding of P, dS and the saved output.
inline test::Tolerance tolerance(const AttentionCase& x, double slack) {
  const auto t = test::tolerance(x.dtype, std::max<std::int64_t>(x.T, x.d));
  return {t.relative * slack, t.global * slack};
}

/// Tokens that see only themselves have gradients of zero; then the scale of the inputs, one,
/// counts.
inline ::testing::AssertionResult gradient_near(const std::vector<float>& got,
                                                const std::vector<float>& want,
                                                const AttentionCase& x) {
  const auto small = [](float bound) { return [bound](float v) { return std::abs(v) <= bound; }; };
  const test::Tolerance t = tolerance(x, 6.0);
  if (!std::all_of(want.begin(), want.end(), small(1e-12F))) return test::all_near(got, want, t);
  if (std::all_of(got.begin(), got.end(), small(static_cast<float>(t.relative)))) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << "expected zeros";
}

inline bool all_nan(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isnan(v); });
}

inline std::vector<std::int32_t> pattern(std::int64_t T, std::int32_t groups, std::int32_t block) {
  std::vector<std::int32_t> active;
  for (std::int32_t t = 0; t < T; ++t) active.push_back(1 + (t / block * 7 + 2) % groups);
  return active;
}

/// Head dimensions that have kernels of their own, around the borders of tiles of 64 and 128
/// tokens, in one to three sequences.
inline std::vector<AttentionCase> edge_shapes(DType dtype) {
  std::vector<AttentionCase> all;
  std::vector<std::int32_t> sixteen_documents;
  for (std::int32_t t = 128; t < 2048; t += 128) sixteen_documents.push_back(t);
  all.push_back({2048, 6, 6, 128, dtype, sixteen_documents});  // more groups than go at once
  for (const std::int64_t d : {64, 128}) {
    all.push_back({1, 8, 1, d, dtype});
    all.push_back({63, 2, 2, d, dtype});
    all.push_back({128, 8, 1, d, dtype, {64}});
    all.push_back({195, 2, 1, d, dtype, {65, 130}});
    all.push_back({127, 8, 4, d, dtype, {}, pattern(127, 4, 64)});
    all.push_back({258, 2, 2, d, dtype, {129}});
    all.push_back({257, 4, 2, d, dtype, {}, pattern(257, 2, 64)});
    all.push_back({385, 2, 2, d, dtype, {3, 60, 191, 193, 384}, std::vector<std::int32_t>(385, 1)});
  }
  return all;
}

inline std::vector<AttentionCase> shapes(DType dtype) {
  std::vector<AttentionCase> all = edge_shapes(dtype);
  const std::vector<AttentionCase> small{
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
  all.insert(all.end(), small.begin(), small.end());
  return all;
}

}  // namespace shoal::ops
