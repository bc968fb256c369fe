#include "shoal/device/graph.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/device/buffer.hpp"
#include "shoal/device/side_exec.hpp"

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

TEST(Graph, GpuHoldsAStreamThatWasForkedAndJoined) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU here";
  const Exec exec{DeviceKind::cuda, {}};
  constexpr std::int64_t kBytes = 64;
  const DeviceBuffer a{DeviceKind::cuda, kBytes}, b{DeviceKind::cuda, kBytes},
      c{DeviceKind::cuda, kBytes};
  SideExec side{exec};
  Graph graph;
  graph.record(exec, [&] {
    copy(exec, b.data(), a.data(), kBytes);
    copy(side.fork(exec), c.data(), b.data(), kBytes);
    side.join(exec);
    zero(exec, b.data(), kBytes);  // after the copy beside
  });
  std::vector<char> seen(kBytes);
  for (const char value : {'x', 'y'}) {
    const std::vector<char> values(kBytes, value);
    upload(exec, a.data(), values.data(), kBytes);
    graph.launch(exec);
    download(exec, seen.data(), c.data(), kBytes);
    exec.synchronize();
    EXPECT_EQ(seen, values);
  }
}

TEST(SideExec, NeedsAGpu) {
  const Exec exec{DeviceKind::cpu, {}};
  EXPECT_THROW(static_cast<void>(SideExec{exec}), Error);
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
