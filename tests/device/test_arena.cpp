#include "shoal/device/arena.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/device/exec.hpp"

namespace shoal {
namespace {

void use(Exec& exec) {
  (void)exec.arena().persistent(1000, MemoryKind::weights);
  (void)exec.arena().saved(1).allocate(300);
  {
    const ScratchScope outer{exec};
    (void)exec.scratch().allocate(256);
    {
      const ScratchScope inner{exec};
      (void)exec.scratch().allocate(512);
    }
    (void)exec.scratch().allocate(256);
  }
}

TEST(Arena, CountedPlanIsExactlyWhatTheRealRunNeeds) {
  Exec dry = Exec::dry(DeviceKind::cpu);
  use(dry);
  const ArenaPlan plan = dry.arena().plan();
  EXPECT_EQ(plan.persistent, 1024);
  ASSERT_EQ(plan.saved.size(), 2U);
  EXPECT_EQ(plan.saved[0], 0);
  EXPECT_EQ(plan.saved[1], 512);
  EXPECT_EQ(plan.scratch, 768) << "scopes reuse memory";
  Exec real{DeviceKind::cpu, plan};
  EXPECT_NO_THROW(use(real));
  EXPECT_THROW((void)real.arena().persistent(1, MemoryKind::weights), Error) << "nothing to spare";
}

TEST(Arena, FreedSlotIsReused) {
  Exec exec{DeviceKind::cpu, ArenaPlan{.saved = {256}}};
  void* first = exec.arena().saved(0).allocate(10);
  EXPECT_THROW((void)exec.arena().saved(0).allocate(10), Error);
  exec.arena().free_saved(0);
  EXPECT_EQ(exec.arena().saved(0).allocate(10), first);
}

}  // namespace
}  // namespace shoal
