#pragma once
// One attention problem on the GPU, heads packed as a layer packs them: queries and keys in one
// tensor, values in another.
#include <algorithm>
#include <string>

#include "bench/measure.cuh"
#include "ops/attention_scratch.hpp"
#include "shoal/ops/attention.hpp"

namespace shoal::bench {

/// T tokens in documents that begin at multiples of `document` (and at `more`), H heads of d values
/// in G groups. `active`: of the groups, those that token t uses; empty for all.
struct AttentionShape {
  std::int64_t T, H, G, d;
  DType dtype = DType::bf16;
  std::int64_t document = 0;  // 0: one document
  std::vector<std::int32_t> more = {};
  std::vector<std::int32_t> active = {};
};

[[nodiscard]] inline std::vector<std::int32_t> doc_starts(const AttentionShape& s) {
  std::vector<std::int32_t> start(static_cast<std::size_t>(s.T));
  std::int32_t current = 0;
  for (std::int32_t t = 0; t < s.T; ++t) {
    const bool listed = std::find(s.more.begin(), s.more.end(), t) != s.more.end();
    if (listed || (s.document > 0 && t % s.document == 0)) current = t;
    start[static_cast<std::size_t>(t)] = current;
  }
  return start;
}

/// Floating-point operations of the two products of the forward pass over visible pairs, half of
/// the square of each document.
[[nodiscard]] inline double causal_flops(const AttentionShape& s) {
  const auto document = static_cast<double>(s.document > 0 ? s.document : s.T);
  return 2.0 * static_cast<double>(s.T) * document * static_cast<double>(s.H * s.d);
}

struct AttentionProblem {
  AttentionProblem(const Exec& on, const AttentionShape& shape) : exec{on}, s{shape} {
    upload_values(exec, doc_start, doc_starts(s));
    if (!s.active.empty()) upload_values(exec, active, s.active);
  }
  [[nodiscard]] Tensor make(std::int64_t columns, unsigned seed) const {
    return random_tensor(exec, {s.T, columns}, s.dtype, seed);
  }
  template <class View>
  [[nodiscard]] ops::BasicHeads<View> heads(const Tensor& rows, std::int64_t first,
                                            std::int64_t count) const {
    return {.rows = rows, .first = first, .heads = count, .head_dim = s.d};
  }
  [[nodiscard]] ops::AttentionForward forward(const Tensor& to, const Tensor& lse_to) const {
    return {.out = heads<TensorView>(to, 0, s.H),
            .lse_HT = lse_to,
            .q = heads<ConstTensorView>(qk, 0, s.H),
            .k = heads<ConstTensorView>(qk, s.H * s.d, s.G),
            .v = heads<ConstTensorView>(v, 0, s.G),
            .doc_start_T = doc_start,
            .active_groups_T = s.active.empty() ? ConstTensorView{} : ConstTensorView{active},
            .scale = 1.0F / std::sqrt(static_cast<float>(s.d))};
  }

  const Exec& exec;
  AttentionShape s;
  Tensor qk = make((s.H + s.G) * s.d, 1), v = make(s.G * s.d, 2);
  Tensor out{DeviceKind::cuda, {s.T, s.H* s.d}, s.dtype};
  Tensor lse{DeviceKind::cuda, {s.H, s.T}, DType::f32};
  Tensor doc_start{DeviceKind::cuda, {s.T}, DType::i32};
  Tensor active{DeviceKind::cuda, {static_cast<std::int64_t>(s.active.size())}, DType::i32};
  // Room for the scratch of one call.
  Tensor words{DeviceKind::cuda, {4 * ops::query_order_words(s.T)}, DType::u8};
};

[[nodiscard]] inline std::string text(const AttentionShape& s) {
  char line[128];
  std::snprintf(line, sizeof line, "%s d %lld H %lld G %lld T %lld document %lld%s%s",
                s.dtype == DType::f16 ? "f16" : "bf16", static_cast<long long>(s.d),
                static_cast<long long>(s.H), static_cast<long long>(s.G),
                static_cast<long long>(s.T), static_cast<long long>(s.document),
                s.more.empty() ? "" : " uneven", s.active.empty() ? "" : " inactive");
  return line;
}

}  // namespace shoal::bench
