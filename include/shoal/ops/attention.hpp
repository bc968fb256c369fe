#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Heads inside wider rows: element (t, head, i) is at data[t * row_stride + head * head_dim + i].
/// Lets attention read queries, keys and values out of packed projections.
template <class View>
struct BasicHeads {
  View rows;               ///< elem [T, row_stride]
  std::int64_t first = 0;  ///< column of head 0
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
};
using Heads = BasicHeads<TensorView>;
using ConstHeads = BasicHeads<ConstTensorView>;

/// Causal grouped-query attention with an online softmax: no T x T matrix in memory (Dao et al.
/// 2022, arXiv:2205.14135; Ainslie et al. 2023, arXiv:2305.13245). Token t sees the keys of tokens
/// [doc_start[t], t]; doc_start never decreases and starts each sequence anew. Query head h uses
/// group h / (H/G). With active_groups: group j of token t is active iff j < active_groups[t];
/// inactive pairs write zeros and whole inactive tiles are skipped.
struct AttentionForward {
  Heads out;                        ///< elem, H heads
  TensorView lse_HT;                ///< out f32 [H, T], natural log; optional
  ConstHeads q;                     ///< elem, H heads
  ConstHeads k, v;                  ///< elem, G heads
  ConstTensorView doc_start_T;      ///< i32
  ConstTensorView active_groups_T;  ///< i32, optional
  float scale = 1.0F;               ///< of the scores, usually d^-1/2
};
void attention_forward(const Exec& exec, const AttentionForward& args);

/// Deterministic: sums are added in a fixed order. Inactive pairs get zero gradients.
struct AttentionBackward {
  Heads dq;         ///< out elem, H heads
  Heads dk, dv;     ///< out elem, G heads
  ConstHeads dout;  ///< elem, H heads
  ConstHeads out;   ///< elem, H heads
  ConstHeads q, k, v;
  ConstTensorView lse_HT;
  ConstTensorView doc_start_T, active_groups_T;
  float scale = 1.0F;
};
void attention_backward(const Exec& exec, const AttentionBackward& args);

/// Attention of new tokens over a cache, for generation (one sequence): query i stands at position
/// first + i and sees cached keys [0, first + i].
struct AttentionCached {
  TensorView out_TC;      ///< out elem [T, H d]
  ConstHeads q;           ///< elem, H heads of T new tokens
  ConstTensorView k_PGd;  ///< elem [P, G, d], rows [0, first + T) are filled
  ConstTensorView v_PGd;
  ConstTensorView active_groups_T;  ///< i32 [T], optional
  std::int64_t first = 0;
  float scale = 1.0F;
};
void attention_cached(const Exec& exec, const AttentionCached& args);

namespace cpu {
void attention_forward(const Exec& exec, const AttentionForward& args);
void attention_backward(const Exec& exec, const AttentionBackward& args);
void attention_cached(const Exec& exec, const AttentionCached& args);
}  // namespace cpu
namespace cuda {
void attention_forward(const Exec& exec, const AttentionForward& args);
void attention_backward(const Exec& exec, const AttentionBackward& args);
void attention_cached(const Exec& exec, const AttentionCached& args);
}  // namespace cuda
}  // namespace shoal::ops
