#pragma once
#include "shoal/tensor/view.hpp"

namespace shoal::nn {

/// One micro-batch on the device: sequences of equal length laid end to end, T tokens in all. With
/// `cross_document` whoever fills it takes each sequence as one document.
struct Batch {
  ConstTensorView token_T;       ///< i32
  ConstTensorView target_T;      ///< i32
  ConstTensorView mask_T;        ///< u8: 1 where the target counts
  ConstTensorView doc_start_T;   ///< i32: index in the batch of the first token of t's document
  ConstTensorView position_T;    ///< i32: t - doc_start[t]
  std::int64_t sequence = 0;     ///< tokens of one sequence
  std::int64_t first_token = 0;  ///< of the step's global batch: keys dropout
};

/// Device scalars that a step's kernels read; one small u8/f32 block written before each step.
struct StepScalars {
  ConstTensorView loss_grad_scale;  ///< f32 [1]: loss scale / global count of unmasked targets
  ConstTensorView aux_scale;        ///< f32 [1]: loss scale * coefficient / global groups
  ConstTensorView z_scale;          ///< f32 [1]: loss scale * coefficient / global tokens
  ConstTensorView budget_scale;     ///< f32 [1]: loss scale * coefficient / global sequences
  ConstTensorView step_seed;        ///< i64 [1]: dropout
};

}  // namespace shoal::nn
