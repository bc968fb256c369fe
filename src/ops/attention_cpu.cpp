#include "ops/attention_cpu.hpp"

#include <omp.h>

#include <algorithm>
#include <limits>

#include "ops/attention_scratch.hpp"
#include "ops/cpu_math.hpp"
#include "shoal/base/math.hpp"

namespace shoal::ops::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Elem>
struct ForwardCall {
  Rows<const Elem> query, key, value;
  Rows<Elem> out;
  float* lse;  // of this head, or null
  std::int64_t head_dim, group;
  float scale;
  Visibility visible;
};

/// Turns the scores of row r, keys [begin, begin + width), into probabilities against the running
/// maximum; returns the factor that the row's earlier sums take.
float softmax_row(const ForwardTile& tile, std::int64_t r, std::int64_t lo, std::int64_t hi,
                  std::int64_t width) {
  float* score = tile.score + r * width;
  std::fill(score, score + lo, 0.0F);
  std::fill(score + hi, score + width, 0.0F);
  if (lo == hi) return 1.0F;
  const float before = tile.maximum[r];
  float maximum = before;
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = lo; j < hi; ++j) maximum = std::max(maximum, score[j]);
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = lo; j < hi; ++j) {
    score[j] = fast_exp(score[j] - maximum);
    sum += score[j];
  }
  const float factor = fast_exp(before - maximum);
  tile.maximum[r] = maximum;
  tile.total[r] = tile.total[r] * factor + sum;
  return factor;
}

/// One block of keys: scores, probabilities, and their share of the output sums.
template <class Elem>
void attend_keys(const ForwardCall<Elem>& c, const ForwardTile& tile, Panel query, std::int64_t t0,
                 std::int64_t count, std::int64_t key0, std::int64_t width, bool first) {
  const std::int64_t d = c.head_dim;
  const Panel key = float_panel(rows_from(c.key, key0), width, d, tile.key);
  const Panel value = float_panel(rows_from(c.value, key0), width, d, tile.value);
  matmul({CblasNoTrans, CblasTrans, count, width, d, c.scale, query, key, 0.0F, tile.score, width});
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t t = t0 + r;
    const std::int64_t lo = std::clamp<std::int64_t>(c.visible.begin(t) - key0, 0, width);
    const std::int64_t hi = std::clamp<std::int64_t>(c.visible.end(t) - key0, lo, width);
    const float factor = softmax_row(tile, r, lo, c.visible.on(t, c.group) ? hi : lo, width);
    if (first || factor == 1.0F) continue;
    for (std::int64_t i = 0; i < d; ++i) tile.sum[r * d + i] *= factor;
  }
  matmul({CblasNoTrans,
          CblasNoTrans,
          count,
          d,
          width,
          1.0F,
          {tile.score, width},
          value,
          first ? 0.0F : 1.0F,
          tile.sum,
          d});
}

/// Queries [t0, t0 + count) of one head, online softmax over blocks of keys.
template <class Elem>
void attend(const ForwardCall<Elem>& c, const ForwardTile& tile, std::int64_t t0,
            std::int64_t count) {
  const std::int64_t d = c.head_dim;
  std::fill_n(tile.maximum, count, -kInfinity);
  std::fill_n(tile.total, count, 0.0F);
  std::fill_n(tile.sum, count * d, 0.0F);
  if (c.visible.any_on(t0, count, c.group)) {
    const Panel query = float_panel(rows_from(c.query, t0), count, d, tile.query);
    const std::int64_t begin = c.visible.begin(t0);
    const std::int64_t end = c.visible.end(t0 + count - 1);
    for (std::int64_t key0 = begin; key0 < end; key0 += kTileKeys) {
      attend_keys(c, tile, query, t0, count, key0, std::min(kTileKeys, end - key0), key0 == begin);
    }
  }
  for (std::int64_t r = 0; r < count; ++r) {
    const bool on = tile.total[r] > 0.0F;
    const float inverse = on ? 1.0F / tile.total[r] : 0.0F;
    for (std::int64_t i = 0; i < d; ++i) tile.sum[r * d + i] *= inverse;
    from_floats(c.out.row(t0 + r), tile.sum + r * d, d);
    // Infinity for an inactive pair: the backward pass finds probabilities of zero.
    if (c.lse) c.lse[t0 + r] = on ? tile.maximum[r] + std::log(tile.total[r]) : kInfinity;
  }
}

/// Threads share (head, tile of queries) pairs; each is done by one thread alone.
template <class MakeCall>
void for_each_tile(std::int64_t heads, std::int64_t tokens, const TensorView& buffers,
                   const MakeCall& make_call) {
  const std::int64_t tiles = ceil_div(tokens, kTileQueries);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < heads * tiles; ++i) {
    const auto call = make_call(i / tiles);
    const std::int64_t t0 = (tiles - 1 - i % tiles) * kTileQueries;  // longest first
    attend(call, ForwardTile{buffers.rows(omp_get_thread_num(), 1).data<float>(), call.head_dim},
           t0, std::min(kTileQueries, tokens - t0));
  }
}

}  // namespace

void attention_forward(const Exec& exec, const AttentionForward& a) {
  const ScratchScope scope{exec};
  const TensorView buffers = allocate(exec, attention_forward_scratch(exec, a));
  const std::int64_t tokens = a.q.rows.dim(0);
  with_elem(a.q.rows.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    for_each_tile(a.q.heads, tokens, buffers, [&](std::int64_t head) {
      const std::int64_t group = head / (a.q.heads / a.k.heads);
      return ForwardCall<Elem>{
          .query = head_rows<Elem>(a.q, head),
          .key = head_rows<Elem>(a.k, group),
          .value = head_rows<Elem>(a.v, group),
          .out = head_rows<Elem>(a.out, head),
          .lse = a.lse_HT.absent() ? nullptr : a.lse_HT.data<float>() + head * tokens,
          .head_dim = a.q.head_dim,
          .group = group,
          .scale = a.scale,
          .visible = {.start = a.doc_start_T.data<std::int32_t>(),
                      .active = ints_or_null(a.active_groups_T)}};
    });
  });
}

void attention_cached(const Exec& exec, const AttentionCached& a) {
  const ScratchScope scope{exec};
  const TensorView buffers = allocate(exec, attention_cached_scratch(exec, a));
  const std::int64_t groups = a.k_PGd.dim(1), d = a.q.head_dim;
  with_elem(a.q.rows.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    for_each_tile(a.q.heads, a.q.rows.dim(0), buffers, [&](std::int64_t head) {
      const std::int64_t group = head / (a.q.heads / groups);
      return ForwardCall<Elem>{
          .query = head_rows<Elem>(a.q, head),
          .key = {a.k_PGd.data<Elem>() + group * d, groups * d},
          .value = {a.v_PGd.data<Elem>() + group * d, groups * d},
          .out = {a.out_TC.data<Elem>() + head * d, a.q.heads * d},
          .lse = nullptr,
          .head_dim = d,
          .group = group,
          .scale = a.scale,
          .visible = {.active = ints_or_null(a.active_groups_T), .first = a.first}};
    });
  });
}

}  // namespace shoal::ops::cpu
