#pragma once
#include "shoal/base/philox.hpp"
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// to = from, between any two of f32, bf16, f16.
void cast(const Exec& exec, const TensorView& to, const ConstTensorView& from);
/// y = a + b, same elem dtype; y may be a or b.
void add(const Exec& exec, const TensorView& y, const ConstTensorView& a, const ConstTensorView& b);
/// y += a * x, f32; `a` multiplies.
void axpy(const Exec& exec, const TensorView& y, const ConstTensorView& x, float a);
/// f32 or i32 values all set to `value`.
void fill(const Exec& exec, const TensorView& y, float value);
/// out [1] f32 = sum of x (f32), in a fixed order.
void sum(const Exec& exec, const TensorView& out, const ConstTensorView& x);

/// Random initial weights: y[i] = std * normal(seed, weights, stream, first + i); elem or f32. The
/// same values on any device, and on any split of the tensor: `first` is the global index.
struct FillNormal {
  TensorView y;
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;  ///< which parameter
  std::int64_t first = 0;
  float std = 0.02F;
};
void fill_normal(const Exec& exec, const FillNormal& args);

/// Inverted dropout: y = x * keep / (1 - p), keep a pure function of (step_seed[0], stream, first +
/// i). The backward is the same call on the gradient. y may be x; with `add`, y = add + dropout(x).
struct Dropout {
  TensorView y;               ///< out elem
  ConstTensorView x;          ///< elem
  ConstTensorView add;        ///< elem, optional
  ConstTensorView step_seed;  ///< i64 [1] on the device
  float p = 0.0F;             ///< in [0, 1)
  std::uint32_t stream = 0;   ///< which site of which layer
  std::int64_t first = 0;     ///< global element index of y[0] in the global batch
};
void dropout(const Exec& exec, const Dropout& args);

/// `part_P` of sum: scratch for its two stages.
namespace cpu {
void cast(const Exec& exec, const TensorView& to, const ConstTensorView& from);
void add(const Exec& exec, const TensorView& y, const ConstTensorView& a, const ConstTensorView& b);
void axpy(const Exec& exec, const TensorView& y, const ConstTensorView& x, float a);
void fill(const Exec& exec, const TensorView& y, float value);
void sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
         const TensorView& part_P);
void fill_normal(const Exec& exec, const FillNormal& args);
void dropout(const Exec& exec, const Dropout& args);
}  // namespace cpu
namespace cuda {
void cast(const Exec& exec, const TensorView& to, const ConstTensorView& from);
void add(const Exec& exec, const TensorView& y, const ConstTensorView& a, const ConstTensorView& b);
void axpy(const Exec& exec, const TensorView& y, const ConstTensorView& x, float a);
void fill(const Exec& exec, const TensorView& y, float value);
void sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
         const TensorView& part_P);
void fill_normal(const Exec& exec, const FillNormal& args);
void dropout(const Exec& exec, const Dropout& args);
}  // namespace cuda
}  // namespace shoal::ops
