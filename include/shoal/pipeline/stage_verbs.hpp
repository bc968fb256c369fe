#pragma once
#include "shoal/nn/model.hpp"

namespace shoal::pipeline {

/// What crosses the border between two chunks in every micro-batch: [T_part, D] elem, where T_part
/// are the tokens of this tensor parallel rank.
struct Border {
  Shape shape;
  DType dtype = DType::f32;
};

/// Which micro-batch of which local chunk, and in which slots of the arena its tensors lie.
struct StageCall {
  int chunk = 0;
  int micro_batch = 0;
  int slot = 0;         ///< from forward to the end of backward
  int delta_slot = -1;  ///< from backward_input to backward_weight; -1 in a backward at once
};

/// What a stage computes; the executor decides when, and brings what crosses borders.
class StageVerbs {
 public:
  virtual ~StageVerbs() = default;
  [[nodiscard]] virtual Border border() const = 0;

  /// `x_TD` lies in the slot; absent in the model's first chunk. Returns the chunk's output, also
  /// in the slot; nobody reads that of the last chunk.
  virtual ConstTensorView forward(const Exec& exec, const StageCall& call,
                                  const TensorView& x_TD) = 0;
  /// dx is absent in the first chunk, dy in the last. dy lies in the delta slot and stays until
  /// backward_weight; dx is free again when the call returns.
  virtual void backward_input(const Exec& exec, const StageCall& call,
                              const nn::StageGradients& gradients) = 0;
  virtual void backward_weight(const Exec& exec, const StageCall& call) = 0;
  /// Both at once; dy is free again when the call returns.
  virtual void backward(const Exec& exec, const StageCall& call,
                        const nn::StageGradients& gradients) = 0;
};

}  // namespace shoal::pipeline
