#include "shoal/ops/attention.hpp"

#include "ops/attention_scratch.hpp"

namespace shoal::ops {
namespace {

/// Heads of T tokens inside their rows, H or G of them, d values each.
struct HeadSizes {
  std::int64_t tokens, heads, head_dim;
  DType dtype;
};

template <class View>
void check_heads(const BasicHeads<View>& x, const HeadSizes& size, std::string_view what) {
  expect(x.rows.shape().rank() == 2, "attention: heads lie inside rows of a matrix");
  expect_shape(x.rows, {size.tokens, x.rows.dim(1)}, what);
  expect_dtype(x.rows, size.dtype, what);
  expect(x.heads == size.heads && x.head_dim == size.head_dim, "attention: head counts differ");
  expect(x.first >= 0 && x.first + x.heads * x.head_dim <= x.rows.dim(1),
         "attention: heads reach beyond their rows");
}

/// Sizes as q has them; checks what all forms share.
HeadSizes query_sizes(const ConstHeads& q, std::int64_t groups) {
  expect(q.rows.shape().rank() == 2, "attention: heads lie inside rows of a matrix");
  expect_floating(q.rows, "attention q");
  expect(q.head_dim > 0 && q.heads > 0 && groups > 0 && q.heads % groups == 0,
         "attention: the number of query heads is a multiple of the number of groups");
  return {q.rows.dim(0), q.heads, q.head_dim, q.rows.dtype()};
}

void check_tokens(const ConstTensorView& doc_start, const ConstTensorView& active,
                  std::int64_t tokens) {
  expect_shape(doc_start, {tokens}, "attention doc_start");
  expect_dtype(doc_start, DType::i32, "attention doc_start");
  if (active.absent()) return;
  expect_shape(active, {tokens}, "attention active_groups");
  expect_dtype(active, DType::i32, "attention active_groups");
}

void check_lse(const ConstTensorView& lse, const HeadSizes& size) {
  expect_shape(lse, {size.heads, size.tokens}, "attention lse");
  expect_dtype(lse, DType::f32, "attention lse");
}

}  // namespace

void attention_forward(const Exec& exec, const AttentionForward& a) {
  const HeadSizes query = query_sizes(a.q, a.k.heads);
  const HeadSizes key{query.tokens, a.k.heads, query.head_dim, query.dtype};
  check_heads(a.q, query, "attention_forward q");
  check_heads(a.k, key, "attention_forward k");
  check_heads(a.v, key, "attention_forward v");
  check_heads(a.out, query, "attention_forward out");
  if (!a.lse_HT.absent()) check_lse(a.lse_HT, query);
  check_tokens(a.doc_start_T, a.active_groups_T, query.tokens);
  if (exec.is_dry()) return count_scratch(exec, attention_forward_scratch(exec, a));
  if (query.tokens == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::attention_forward(exec, a);
  }
  cpu::attention_forward(exec, a);
}

void attention_backward(const Exec& exec, const AttentionBackward& a) {
  const HeadSizes query = query_sizes(a.q, a.k.heads);
  const HeadSizes key{query.tokens, a.k.heads, query.head_dim, query.dtype};
  check_heads(a.q, query, "attention_backward q");
  check_heads(a.dout, query, "attention_backward dout");
  check_heads(a.out, query, "attention_backward out");
  check_heads(a.dq, query, "attention_backward dq");
  check_heads(a.k, key, "attention_backward k");
  check_heads(a.v, key, "attention_backward v");
  check_heads(a.dk, key, "attention_backward dk");
  check_heads(a.dv, key, "attention_backward dv");
  check_lse(a.lse_HT, query);
  check_tokens(a.doc_start_T, a.active_groups_T, query.tokens);
  if (exec.is_dry()) return count_scratch(exec, attention_backward_scratch(exec, a));
  if (query.tokens == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::attention_backward(exec, a);
  }
  cpu::attention_backward(exec, a);
}

void attention_cached(const Exec& exec, const AttentionCached& a) {
  expect(a.k_PGd.shape().rank() == 3, "attention_cached: the cache is [P, G, d]");
  const HeadSizes query = query_sizes(a.q, a.k_PGd.dim(1));
  check_heads(a.q, query, "attention_cached q");
  expect_shape(a.k_PGd, {a.k_PGd.dim(0), a.k_PGd.dim(1), query.head_dim}, "attention_cached k");
  expect_shape(a.v_PGd, a.k_PGd.shape(), "attention_cached v");
  expect_shape(a.out_TC, {query.tokens, query.heads * query.head_dim}, "attention_cached out");
  expect_same_dtype(a.q.rows, a.k_PGd, "attention_cached k");
  expect_same_dtype(a.q.rows, a.v_PGd, "attention_cached v");
  expect_same_dtype(a.q.rows, a.out_TC, "attention_cached out");
  expect(a.first >= 0 && a.first + query.tokens <= a.k_PGd.dim(0),
         "attention_cached: positions reach beyond the cache");
  if (!a.active_groups_T.absent()) {
    expect_shape(a.active_groups_T, {query.tokens}, "attention_cached active_groups");
    expect_dtype(a.active_groups_T, DType::i32, "attention_cached active_groups");
  }
  if (exec.is_dry()) return count_scratch(exec, attention_cached_scratch(exec, a));
  if (query.tokens == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::attention_cached(exec, a);
  }
  cpu::attention_cached(exec, a);
}

}  // namespace shoal::ops
