#include "shoal/device/graph.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/device/buffer.hpp"

namespace shoal {
namespace {

TEST(Graph, NeedsAGpu) {
  const Exec exec{DeviceKind::cpu, {}};
  Graph graph;
  EXPECT_FALSE(graph.recorded());
  EXPECT_THROW(graph.record(exec, [] {}), Error);
  EXPECT_THROW(graph.launch(exec), Error);
}

TEST(Graph, GpuLaunchesWhatWasRecorded) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU here";
  const Exec exec{DeviceKind::cuda, {}};
  constexpr std::int64_t kBytes = 64;
  const DeviceBuffer from{DeviceKind::cuda, kBytes}, to{DeviceKind::cuda, kBytes};
  const auto body = [&] { copy(exec, to.data(), from.data(), kBytes); };
  const std::vector<char> ones(kBytes, 1), twos(kBytes, 2);
  std::vector<char> seen(kBytes, 0);
  upload(exec, from.data(), ones.data(), kBytes);
  zero(exec, to.data(), kBytes);
  Graph graph;
  graph.record(exec, body);
  download(exec, seen.data(), to.data(), kBytes);
  exec.synchronize();
  EXPECT_EQ(seen, std::vector<char>(kBytes, 0)) << "recording must not run";
  for (const auto& values : {ones, twos}) {
    upload(exec, from.data(), values.data(), kBytes);
    graph.launch(exec);
    download(exec, seen.data(), to.data(), kBytes);
    exec.synchronize();
    EXPECT_EQ(seen, values);
  }
}

TEST(Graph, GpuIsUsableAfterARecordingThatThrew) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU here";
  const Exec exec{DeviceKind::cuda, {}};
  Graph graph;
  EXPECT_THROW(graph.record(exec, [] { fail("test", "on purpose"); }), Error);
  EXPECT_FALSE(graph.recorded());
  const DeviceBuffer buffer{DeviceKind::cuda, 64};
  zero(exec, buffer.data(), 64);
  exec.synchronize();
}

}  // namespace
}  // namespace shoal
