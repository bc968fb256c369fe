#include <omp.h>

#include <algorithm>
#include <vector>

#include "ops/attention_cpu.hpp"
#include "ops/attention_scratch.hpp"
#include "ops/cpu_math.hpp"

namespace shoal::ops::cpu {
namespace {

/// Whole documents that are differentiated together: long enough to pay, independent of others.
struct Segment {
  std::int64_t begin, end;
};

std::vector<Segment> segments_of(const std::int32_t* doc_start, std::int64_t tokens) {
  std::vector<Segment> segments;
  std::int64_t begin = 0;
  for (std::int64_t t = 1; t <= tokens; ++t) {
    const bool is_start = t == tokens || doc_start[t] == t;
    if (!is_start || (t < tokens && t - begin < kTileQueries)) continue;
    segments.push_back({begin, t});
    begin = t;
  }
  return segments;
}

template <class Elem>
struct BackwardCall {
  const AttentionBackward& args;
  BackwardTile tile;
  Segment segment;
  std::int64_t group;
  Visibility visible;
};

/// A tile of queries of one head, as fp32.
struct QueryTile {
  std::int64_t head, t0, count;
  Panel query, dout;
};

/// P = exp(S - lse) where visible, else zero; then dS = scale * P * (dP - D).
void differentiate_rows(const BackwardTile& tile, const Visibility& visible, const QueryTile& q,
                        std::int64_t group, const float* lse, std::int64_t key0, std::int64_t width,
                        float scale) {
  for (std::int64_t r = 0; r < q.count; ++r) {
    const std::int64_t t = q.t0 + r;
    const std::int64_t lo = std::clamp<std::int64_t>(visible.begin(t) - key0, 0, width);
    std::int64_t hi = std::clamp<std::int64_t>(visible.end(t) - key0, lo, width);
    if (!visible.on(t, group)) hi = lo;
    float* p = tile.score + r * width;
    float* ds = tile.dscore + r * width;
    std::fill(p, p + lo, 0.0F);
    std::fill(ds, ds + lo, 0.0F);
    const float shift = lse[t], delta = tile.delta[r];
#pragma omp simd
    for (std::int64_t j = lo; j < hi; ++j) {
      p[j] = fast_exp(p[j] - shift);
      ds[j] = scale * p[j] * (ds[j] - delta);
    }
    std::fill(p + hi, p + width, 0.0F);
    std::fill(ds + hi, ds + width, 0.0F);
  }
}

/// One block of keys against a tile of queries.
template <class Elem>
void backward_keys(const BackwardCall<Elem>& c, const QueryTile& q, std::int64_t key0,
                   std::int64_t width) {
  const std::int64_t d = c.args.q.head_dim;
  const BackwardTile& tile = c.tile;
  const auto keys = rows_from(head_rows<Elem>(c.args.k, c.group), key0);
  const auto values = rows_from(head_rows<Elem>(c.args.v, c.group), key0);
  const Panel key = float_panel(keys, width, d, tile.key);
  const Panel value = float_panel(values, width, d, tile.value);
  const Panel p{tile.score, width}, ds{tile.dscore, width};
  float* dkey = tile.dkey + (key0 - c.segment.begin) * d;
  float* dvalue = tile.dvalue + (key0 - c.segment.begin) * d;
  const float* lse = c.args.lse_HT.template data<float>() + q.head * c.args.lse_HT.dim(1);
  matmul({CblasNoTrans, CblasTrans, q.count, width, d, c.args.scale, q.query, key, 0.0F, tile.score,
          width});
  matmul(
      {CblasNoTrans, CblasTrans, q.count, width, d, 1.0F, q.dout, value, 0.0F, tile.dscore, width});
  differentiate_rows(tile, c.visible, q, c.group, lse, key0, width, c.args.scale);
  matmul({CblasTrans, CblasNoTrans, width, d, q.count, 1.0F, p, q.dout, 1.0F, dvalue, d});
  matmul({CblasTrans, CblasNoTrans, width, d, q.count, 1.0F, ds, q.query, 1.0F, dkey, d});
  matmul({CblasNoTrans, CblasNoTrans, q.count, d, width, 1.0F, ds, key, 1.0F, tile.dquery, d});
}

template <class Elem>
void backward_queries(const BackwardCall<Elem>& c, std::int64_t head, std::int64_t t0,
                      std::int64_t count) {
  const AttentionBackward& a = c.args;
  const std::int64_t d = a.q.head_dim;
  std::fill_n(c.tile.dquery, count * d, 0.0F);
  if (c.visible.any_on(t0, count, c.group)) {
    const auto query = rows_from(head_rows<Elem>(a.q, head), t0);
    const auto dout = rows_from(head_rows<Elem>(a.dout, head), t0);
    const auto out = rows_from(head_rows<Elem>(a.out, head), t0);
    const QueryTile q{head, t0, count, float_panel(query, count, d, c.tile.query),
                      float_panel(dout, count, d, c.tile.dout)};
    for (std::int64_t r = 0; r < count; ++r) {
      float sum = 0.0F;
      const Elem *dout_d = dout.row(r), *out_d = out.row(r);
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = 0; i < d; ++i) sum += to_float(dout_d[i]) * to_float(out_d[i]);
      c.tile.delta[r] = sum;
    }
    const std::int64_t end = c.visible.end(t0 + count - 1);
    for (std::int64_t key0 = c.visible.begin(t0); key0 < end; key0 += kTileKeys) {
      backward_keys(c, q, key0, std::min(kTileKeys, end - key0));
    }
  }
  const auto dq = head_rows<Elem>(a.dq, head);
  for (std::int64_t r = 0; r < count; ++r) from_floats(dq.row(t0 + r), c.tile.dquery + r * d, d);
}

/// All query heads of one group over one segment, in order: dK and dV need no other thread.
template <class Elem>
void backward_segment(const BackwardCall<Elem>& c) {
  const AttentionBackward& a = c.args;
  const std::int64_t d = a.q.head_dim, length = c.segment.end - c.segment.begin;
  const std::int64_t heads = a.q.heads / a.k.heads;
  std::fill_n(c.tile.dkey, length * d, 0.0F);
  std::fill_n(c.tile.dvalue, length * d, 0.0F);
  for (std::int64_t head = c.group * heads; head < (c.group + 1) * heads; ++head) {
    for (std::int64_t t0 = c.segment.begin; t0 < c.segment.end; t0 += kTileQueries) {
      backward_queries(c, head, t0, std::min(kTileQueries, c.segment.end - t0));
    }
  }
  const auto dk = head_rows<Elem>(a.dk, c.group), dv = head_rows<Elem>(a.dv, c.group);
  for (std::int64_t r = 0; r < length; ++r) {
    from_floats(dk.row(c.segment.begin + r), c.tile.dkey + r * d, d);
    from_floats(dv.row(c.segment.begin + r), c.tile.dvalue + r * d, d);
  }
}

}  // namespace

void attention_backward(const Exec& exec, const AttentionBackward& a) {
  const ScratchScope scope{exec};
  const TensorView buffers = allocate(exec, attention_backward_scratch(exec, a));
  const auto* doc_start = a.doc_start_T.data<std::int32_t>();
  const std::int64_t tokens = a.q.rows.dim(0), groups = a.k.heads;
  const std::vector<Segment> segments = segments_of(doc_start, tokens);
  const auto tasks = static_cast<std::int64_t>(segments.size()) * groups;
  with_elem(a.q.rows.dtype(), [&](auto elem) {
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t i = 0; i < tasks; ++i) {
      float* base = buffers.rows(omp_get_thread_num(), 1).data<float>();
      backward_segment(BackwardCall<decltype(elem)>{
          .args = a,
          .tile = BackwardTile{base, a.q.head_dim, tokens},
          .segment = segments[static_cast<std::size_t>(i / groups)],
          .group = i % groups,
          .visible = {.start = doc_start, .active = ints_or_null(a.active_groups_T)}});
    }
  });
}

}  // namespace shoal::ops::cpu
