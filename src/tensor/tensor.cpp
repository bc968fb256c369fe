#include "shoal/tensor/tensor.hpp"

#include <algorithm>

namespace shoal {
namespace {

template <class From>
std::vector<float> to_floats(const Exec& exec, const ConstTensorView& source) {
  const std::vector<From> host = download_as<From>(exec, source);
  std::vector<float> out(host.size());
  std::transform(host.begin(), host.end(), out.begin(), [](From x) {
    if constexpr (std::is_arithmetic_v<From>) {
      return static_cast<float>(x);
    } else {
      return to_float(x);
    }
  });
  return out;
}

}  // namespace

void upload_values(const Exec& exec, const TensorView& target, std::span<const float> values) {
  expect(target.elements() == static_cast<std::int64_t>(values.size()), "upload: size differs");
  with_elem(target.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    std::vector<Elem> host(values.size());
    std::transform(values.begin(), values.end(), host.begin(), from_float<Elem>);
    upload(exec, target.bytes_begin(), host.data(), target.bytes());
    exec.synchronize();
  });
}

void upload_values(const Exec& exec, const TensorView& target,
                   std::span<const std::int32_t> values) {
  expect_dtype(target, DType::i32, "upload target");
  expect(target.elements() == static_cast<std::int64_t>(values.size()), "upload: size differs");
  upload(exec, target.bytes_begin(), values.data(), target.bytes());
  exec.synchronize();
}

std::vector<float> download_floats(const Exec& exec, const ConstTensorView& source) {
  switch (source.dtype()) {
    case DType::f32:
      return to_floats<float>(exec, source);
    case DType::bf16:
      return to_floats<Bf16>(exec, source);
    case DType::f16:
      return to_floats<Half>(exec, source);
    case DType::f64:
      return to_floats<double>(exec, source);
    case DType::i32:
      return to_floats<std::int32_t>(exec, source);
    case DType::i64:
      return to_floats<std::int64_t>(exec, source);
    case DType::u8:
      return to_floats<std::uint8_t>(exec, source);
    case DType::u16:
      return to_floats<std::uint16_t>(exec, source);
    case DType::u32:
      return to_floats<std::uint32_t>(exec, source);
  }
  return {};
}

}  // namespace shoal
