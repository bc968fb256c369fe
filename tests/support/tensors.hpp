#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "shoal/tensor/tensor.hpp"

namespace shoal::test {

/// An Exec with room for tests (virtual memory until touched on the CPU).
[[nodiscard]] Exec make_exec(DeviceKind device, std::int64_t megabytes = 256);

/// Devices to run a parity test on: {cpu, cuda}; skip the second with a reason where there is none.
[[nodiscard]] bool cuda_available();

/// Normal values drawn on the CPU from a seed, then copied: the same on every device.
[[nodiscard]] Tensor normal(const Exec& exec, Shape shape, DType dtype, std::uint64_t seed,
                            float scale = 1.0F);
[[nodiscard]] Tensor from_values(const Exec& exec, Shape shape, DType dtype,
                                 const std::vector<float>& values);
[[nodiscard]] Tensor from_ints(const Exec& exec, Shape shape,
                               const std::vector<std::int32_t>& values);
/// Filled with a NaN pattern (0x7f bytes), so that an element nobody writes is found.
[[nodiscard]] Tensor poisoned(const Exec& exec, Shape shape, DType dtype);

struct Tolerance {
  double relative;  ///< of the larger of |expected| and its root mean square
  double global;    ///< ||got - expected|| / ||expected||
};
/// For a result of `dtype` that sums `reduction` products.
[[nodiscard]] Tolerance tolerance(DType dtype, std::int64_t reduction = 1);

/// Compares element by element and globally; the message names the first bad index and both errors.
[[nodiscard]] ::testing::AssertionResult all_near(const std::vector<float>& got,
                                                  const std::vector<float>& expected,
                                                  const Tolerance& tolerance);
/// Bitwise; the message names the first index that differs.
[[nodiscard]] ::testing::AssertionResult all_equal(const std::vector<float>& got,
                                                   const std::vector<float>& expected);

}  // namespace shoal::test
