#pragma once
#include <span>
#include <vector>

#include "shoal/device/buffer.hpp"
#include "shoal/tensor/view.hpp"

namespace shoal {

/// Owner of one tensor, for tests, tools and hosts of small state; a step's tensors are arena
/// views.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DeviceKind device, Shape shape, DType dtype)
      : buffer_{device, shape.elements() * size_of(dtype)}, view_{buffer_.data(), shape, dtype} {}

  [[nodiscard]] const TensorView& view() const { return view_; }
  operator TensorView() const { return view_; }       // NOLINT: an owner is usable as its view
  operator ConstTensorView() const { return view_; }  // NOLINT
  [[nodiscard]] const Shape& shape() const { return view_.shape(); }
  [[nodiscard]] DType dtype() const { return view_.dtype(); }

 private:
  DeviceBuffer buffer_;
  TensorView view_;
};

/// Host values into a device tensor, converted to its dtype; waits.
void upload_values(const Exec& exec, const TensorView& target, std::span<const float> values);
void upload_values(const Exec& exec, const TensorView& target,
                   std::span<const std::int32_t> values);
/// A device tensor as host floats (integers are converted); waits.
[[nodiscard]] std::vector<float> download_floats(const Exec& exec, const ConstTensorView& source);
/// Raw elements of a device tensor; T must match the dtype; waits.
template <class T>
[[nodiscard]] std::vector<T> download_as(const Exec& exec, const ConstTensorView& source) {
  expect(DTypeOf<T>::value == source.dtype(), "download_as: type does not match the dtype");
  std::vector<T> host(static_cast<std::size_t>(source.elements()));
  download(exec, host.data(), source.bytes_begin(), source.bytes());
  exec.synchronize();
  return host;
}

}  // namespace shoal
