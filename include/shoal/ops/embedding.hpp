#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

struct EmbeddingForward {
  TensorView x_TD;           ///< out elem
  ConstTensorView token_T;   ///< i32 in [0, V)
  ConstTensorView table_VD;  ///< elem
};
void embedding_forward(const Exec& exec, const EmbeddingForward& args);

/// dtable[v] (+)= sum of dx_t over tokens t with id v, in ascending t: deterministic, no atomics.
struct EmbeddingBackward {
  TensorView dtable_VD;   ///< out f32
  ConstTensorView dx_TD;  ///< elem
  ConstTensorView token_T;
  Accumulate accumulate = Accumulate::overwrite;
};
void embedding_backward(const Exec& exec, const EmbeddingBackward& args);

namespace cpu {
void embedding_forward(const Exec& exec, const EmbeddingForward& args);
void embedding_backward(const Exec& exec, const EmbeddingBackward& args);
}  // namespace cpu
/// `sort_scratch`: u8, to sort the tokens by id.
namespace cuda {
void embedding_forward(const Exec& exec, const EmbeddingForward& args);
void embedding_backward(const Exec& exec, const EmbeddingBackward& args,
                        const TensorView& sort_scratch);
}  // namespace cuda
}  // namespace shoal::ops
