#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/tensors.hpp"

namespace shoal::test {

/// A device and an element type whose results are held to those of the CPU in fp32 on the same
/// values (and those to plain formulas and finite differences).
struct Variant {
  DeviceKind device;
  DType dtype;
};

class Parity : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    if (!usable()) GTEST_SKIP() << "no CUDA device on this host";
  }
  static bool usable() { return GetParam().device == DeviceKind::cpu || cuda_available(); }

  const Exec oracle_ = make_exec(DeviceKind::cpu);
  const Exec exec_ = make_exec(usable() ? GetParam().device : DeviceKind::cpu);
  const DType dtype_ = GetParam().dtype;
};

inline std::string variant_name(const ::testing::TestParamInfo<Variant>& info) {
  return std::string{info.param.device == DeviceKind::cuda ? "cuda" : "cpu"} + "_" +
         std::string{name(info.param.dtype)};
}
inline auto variants() {
  return ::testing::Values(
      Variant{DeviceKind::cpu, DType::bf16}, Variant{DeviceKind::cpu, DType::f16},
      Variant{DeviceKind::cuda, DType::f32}, Variant{DeviceKind::cuda, DType::bf16},
      Variant{DeviceKind::cuda, DType::f16});
}

/// Normal values that `dtype` holds exactly, so that every variant starts from the same numbers.
[[nodiscard]] inline std::vector<float> values(std::int64_t n, std::uint64_t seed,
                                               DType dtype = DType::f32, float scale = 1.0F) {
  const Exec cpu = make_exec(DeviceKind::cpu, 1);
  return download_floats(cpu, normal(cpu, {n}, dtype, seed, scale));
}

}  // namespace shoal::test
