#pragma once
#include "shoal/tensor/view.hpp"

namespace shoal::ops {

/// Shape and dtype of one argument of a public op; throws Error naming it.
inline void expect_tensor(const ConstTensorView& view, const Shape& shape, DType dtype,
                          std::string_view what, Where at = Where::current()) {
  expect_shape(view, shape, what, at);
  expect_dtype(view, dtype, what, at);
}
/// The same for an argument that may be left out.
inline void expect_optional(const ConstTensorView& view, const Shape& shape, DType dtype,
                            std::string_view what, Where at = Where::current()) {
  if (!view.absent()) expect_tensor(view, shape, dtype, what, at);
}

}  // namespace shoal::ops
