#pragma once
#include <gtest/gtest.h>

#include "support/tensors.hpp"

namespace shoal::test {

/// A test that runs once on each device; on CUDA it skips where there is no GPU.
class BothDevices : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (!usable()) GTEST_SKIP() << "no CUDA device on this host";
  }
  static bool usable() { return GetParam() == DeviceKind::cpu || cuda_available(); }

  const Exec exec_ = make_exec(usable() ? GetParam() : DeviceKind::cpu);
};

inline std::string device_name(const ::testing::TestParamInfo<DeviceKind>& info) {
  return info.param == DeviceKind::cuda ? "cuda" : "cpu";
}
inline auto both_devices() {
  return ::testing::Values(DeviceKind::cpu, DeviceKind::cuda);
}

}  // namespace shoal::test
