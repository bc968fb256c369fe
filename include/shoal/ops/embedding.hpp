#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// x_t = row of token t. The table holds ids [first_id, first_id + V), the part of one rank where
/// ranks share a vocabulary; the rows of other ids are zeros.
struct EmbeddingForward {
  TensorView x_TD;           ///< out elem
  ConstTensorView token_T;   ///< i32
  ConstTensorView table_VD;  ///< elem
  std::int64_t first_id = 0;
};
void embedding_forward(const Exec& exec, const EmbeddingForward& args);

/// dtable[v] (+)= sum of dx_t over tokens t with id first_id + v, in ascending t; on the GPU each
/// 32 tokens of an id in a row are summed on their own first. Deterministic, no atomics. Tokens
/// with other ids are left out.
struct EmbeddingBackward {
  TensorView dtable_VD;   ///< out f32
  ConstTensorView dx_TD;  ///< elem
  ConstTensorView token_T;
  std::int64_t first_id = 0;
  Accumulate accumulate = Accumulate::overwrite;
};
void embedding_backward(const Exec& exec, const EmbeddingBackward& args);

namespace cpu {
void embedding_forward(const Exec& exec, const EmbeddingForward& args);
void embedding_backward(const Exec& exec, const EmbeddingBackward& args);
}  // namespace cpu
struct EmbeddingScratch;
namespace cuda {
void embedding_forward(const Exec& exec, const EmbeddingForward& args);
void embedding_backward(const Exec& exec, const EmbeddingBackward& args,
                        const EmbeddingScratch& scratch);
}  // namespace cuda
}  // namespace shoal::ops
