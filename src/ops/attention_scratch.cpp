#include "ops/attention_scratch.hpp"

#include <omp.h>

#include "ops/attention_backward_work.hpp"
#include "ops/attention_cpu.hpp"

namespace shoal::ops {

AttentionScratch attention_forward_scratch(const Exec& exec, const AttentionForward& a) {
  if (exec.on_gpu()) return {1, query_order_words(a.q.rows.dim(0))};
  return {omp_get_max_threads(), cpu::ForwardTile::floats(a.q.head_dim)};
}

AttentionScratch attention_cached_scratch(const Exec& exec, const AttentionCached& a) {
  if (exec.on_gpu()) return {};
  return {omp_get_max_threads(), cpu::ForwardTile::floats(a.q.head_dim)};
}

AttentionScratch attention_backward_scratch(const Exec& exec, const AttentionBackward& a) {
  const std::int64_t tokens = a.q.rows.dim(0);
  if (exec.on_gpu()) {
    const bool wgmma = a.q.rows.dtype() != DType::f32 && backward_has_wgmma(a.q.head_dim);
    if (wgmma) return {1, backward_work_words(tokens, a.q.heads, a.k.heads, a.q.head_dim)};
    return {1, a.q.heads * tokens};  // <dout, out> of each query
  }
  return {omp_get_max_threads(), cpu::BackwardTile::floats(a.q.head_dim, tokens)};
}

}  // namespace shoal::ops
