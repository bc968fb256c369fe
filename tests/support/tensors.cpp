#include "support/tensors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "shoal/base/philox.hpp"

namespace shoal::test {

Exec make_exec(DeviceKind device, std::int64_t megabytes) {
  const std::int64_t bytes = megabytes << 20;
  return Exec{device, ArenaPlan{.persistent = bytes, .saved = {bytes, bytes}, .scratch = bytes}};
}

bool cuda_available() {
  return cuda_device_count() > 0;
}

Tensor from_values(const Exec& exec, Shape shape, DType dtype, const std::vector<float>& values) {
  Tensor tensor{exec.device(), shape, dtype};
  upload_values(exec, tensor.view(), values);
  return tensor;
}

Tensor from_ints(const Exec& exec, Shape shape, const std::vector<std::int32_t>& values) {
  Tensor tensor{exec.device(), shape, DType::i32};
  upload_values(exec, tensor.view(), values);
  return tensor;
}

Tensor normal(const Exec& exec, Shape shape, DType dtype, std::uint64_t seed, float scale) {
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = scale * philox::normal(philox::block(seed, philox::Purpose::test, i));
  }
  return from_values(exec, shape, dtype, values);
}

Tensor poisoned(const Exec& exec, Shape shape, DType dtype) {
  Tensor tensor{exec.device(), shape, dtype};
  const std::vector<std::byte> pattern(static_cast<std::size_t>(tensor.view().bytes()),
                                       std::byte{0xFF});
  upload(exec, tensor.view().bytes_begin(), pattern.data(), tensor.view().bytes());
  exec.synchronize();
  return tensor;
}

Tolerance tolerance(DType dtype, std::int64_t reduction) {
  // Unit round-off of the format times a random-walk growth with the reduction length; the constant
  // leaves room for a different order of summation and for intermediate roundings.
  const double growth = std::sqrt(static_cast<double>(std::max<std::int64_t>(reduction, 1)));
  const double unit = dtype == DType::bf16 ? 0x1p-8 : dtype == DType::f16 ? 0x1p-11 : 0x1p-24;
  const double element = dtype == DType::f32 ? 16.0 * unit * growth : 4.0 * unit;
  return {.relative = std::max(element, 1e-6), .global = std::max(element / 2.0, 1e-6)};
}

::testing::AssertionResult all_near(const std::vector<float>& got,
                                    const std::vector<float>& expected, const Tolerance& t) {
  if (got.size() != expected.size()) {
    return ::testing::AssertionFailure() << got.size() << " values, expected " << expected.size();
  }
  double square = 0.0, square_error = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    square += double{expected[i]} * expected[i];
    square_error += std::pow(double{got[i]} - expected[i], 2);
  }
  const double rms = got.empty() ? 0.0 : std::sqrt(square / static_cast<double>(got.size()));
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(double{got[i]} - expected[i]);
    const double scale = std::max(std::abs(double{expected[i]}), rms);
    if (!(error <= t.relative * scale)) {
      return ::testing::AssertionFailure()
             << "element " << i << ": got " << got[i] << ", expected " << expected[i]
             << " (relative error " << error / std::max(scale, 1e-300) << " > " << t.relative
             << ")";
    }
  }
  const double global = square > 0.0 ? std::sqrt(square_error / square) : std::sqrt(square_error);
  if (!(global <= t.global)) {
    return ::testing::AssertionFailure() << "global relative error " << global << " > " << t.global;
  }
  return ::testing::AssertionSuccess();
}

::testing::AssertionResult all_equal(const std::vector<float>& got,
                                     const std::vector<float>& expected) {
  if (got.size() != expected.size()) {
    return ::testing::AssertionFailure() << got.size() << " values, expected " << expected.size();
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(got[i]) != std::bit_cast<std::uint32_t>(expected[i])) {
      return ::testing::AssertionFailure()
             << "element " << i << ": got " << got[i] << ", expected " << expected[i];
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace shoal::test
