#include "shoal/pipeline/hand_over.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"

namespace shoal::pipeline {
namespace {

TEST(HandOver, HasABufferForEachGradientUnderWay) {
  const Exec exec = Exec::dry(DeviceKind::cpu);
  const Border border{.shape = {4}, .dtype = DType::f32};
  // The middle one of three chunks reads one gradient while it writes another.
  HandOver three{exec, border, {ScheduleKind::interleaved, 1, 4, 3}, 0};
  EXPECT_EQ(three.buffers(), 2);
  const TensorView last = three.put(1, 0), middle = three.put(0, 0);
  EXPECT_NE(last.bytes_begin(), middle.bytes_begin());
  EXPECT_EQ(three.get(1, 0).bytes_begin(), last.bytes_begin());
  three.release(1, 0);
  EXPECT_EQ(three.put(1, 1).bytes_begin(), last.bytes_begin()) << "free again";
  EXPECT_THROW(static_cast<void>(three.get(0, 3)), Error);
  // In a V only the last rank turns round.
  const ScheduleShape v{ScheduleKind::zbv, 4, 8, 2};
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ((HandOver{exec, border, v, rank}.buffers() > 0), rank == 3);
  }
}

}  // namespace
}  // namespace shoal::pipeline
