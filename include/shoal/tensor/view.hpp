#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "shoal/base/error.hpp"
#include "shoal/device/exec.hpp"
#include "shoal/tensor/dtype.hpp"
#include "shoal/tensor/shape.hpp"

namespace shoal {

/// Contiguous row-major elements that somebody else owns. Byte is std::byte or const std::byte.
template <class Byte>
class BasicView {
 public:
  BasicView() = default;
  BasicView(void* data, Shape shape, DType dtype) requires(!std::is_const_v<Byte>)
      : data_{static_cast<Byte*>(data)}, shape_{shape}, dtype_{dtype} {}
  BasicView(const void* data, Shape shape, DType dtype) requires(std::is_const_v<Byte>)
      : data_{static_cast<Byte*>(data)}, shape_{shape}, dtype_{dtype} {}
  template <class Other>
  requires(std::is_const_v<Byte>&& std::is_same_v<Other, std::byte>)
      BasicView(const BasicView<Other>& other)  // NOLINT: a view converts to a view of const
      : data_{other.bytes_begin()}, shape_{other.shape()}, dtype_{other.dtype()} {}

  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] std::int64_t dim(int i) const { return shape_[i]; }
  [[nodiscard]] std::int64_t elements() const { return shape_.elements(); }
  [[nodiscard]] std::int64_t bytes() const { return elements() * size_of(dtype_); }
  /// A view that was never given memory: an optional argument left out.
  [[nodiscard]] bool absent() const { return shape_.rank() == 0 && data_ == nullptr; }
  [[nodiscard]] Byte* bytes_begin() const { return data_; }

  /// Typed address; the type must be that of dtype().
  template <class T>
  [[nodiscard]] auto data() const {
    if (DTypeOf<T>::value != dtype_) fail("tensor", "typed access does not match the dtype");
    if constexpr (std::is_const_v<Byte>) {
      return reinterpret_cast<const T*>(data_);
    } else {
      return reinterpret_cast<T*>(data_);
    }
  }
  /// Same elements in another shape of equal size.
  [[nodiscard]] BasicView reshape(Shape shape) const {
    expect(shape.elements() == elements(), "reshape changes the number of elements");
    return BasicView{data_, shape, dtype_};
  }
  /// Rows [begin, begin + count) along the first dimension.
  [[nodiscard]] BasicView rows(std::int64_t begin, std::int64_t count) const {
    expect(begin >= 0 && count >= 0 && begin + count <= shape_[0], "rows outside the tensor");
    Shape part{count};
    std::int64_t row = 1;
    for (int i = 1; i < shape_.rank(); ++i) {
      part.push_back(shape_[i]);
      row *= shape_[i];
    }
    return BasicView{data_ + begin * row * size_of(dtype_), part, dtype_};
  }

 private:
  Byte* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::f32;
};

using TensorView = BasicView<std::byte>;
using ConstTensorView = BasicView<const std::byte>;

/// Uninitialised memory of a store: a saved slot or scratch.
[[nodiscard]] inline TensorView allocate(const Store& store, Shape shape, DType dtype) {
  return {store.allocate(shape.elements() * size_of(dtype)), shape, dtype};
}
[[nodiscard]] inline TensorView scratch(const Exec& exec, Shape shape, DType dtype) {
  return allocate(exec.scratch(), shape, dtype);
}
[[nodiscard]] inline TensorView persistent(const Exec& exec, Shape shape, DType dtype,
                                           MemoryKind kind) {
  return {exec.arena().persistent(shape.elements() * size_of(dtype), kind), shape, dtype};
}

/// Contract checks of public ops: throw Error naming the argument, with the caller's position.
void expect_shape(const ConstTensorView& view, const Shape& shape, std::string_view what,
                  Where at = Where::current());
void expect_dtype(const ConstTensorView& view, DType dtype, std::string_view what,
                  Where at = Where::current());
/// f32, bf16 or f16.
void expect_floating(const ConstTensorView& view, std::string_view what,
                     Where at = Where::current());
void expect_same_dtype(const ConstTensorView& a, const ConstTensorView& b, std::string_view what,
                       Where at = Where::current());

inline void zero(const Exec& exec, const TensorView& view) {
  zero(exec, view.bytes_begin(), view.bytes());
}

}  // namespace shoal
