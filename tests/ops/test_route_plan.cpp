#include "ops/both_devices.hpp"
#include "ops/permute_reference.hpp"
#include "shoal/ops/permute.hpp"

namespace shoal::ops {
namespace {

using test::Ints;
using test::Plan;
using test::random_experts;
using test::sorted_plan;

struct PlanCase {
  std::int64_t T, K, E, capacity = 0;
  bool even = false;
};

Plan run_plan(const Exec& exec, const PlanCase& c, const Ints& index, std::int64_t R) {
  const Tensor count = test::poisoned(exec, {c.E}, DType::i32);
  const Tensor offset = test::poisoned(exec, {c.E + 1}, DType::i32);
  const Tensor row = test::poisoned(exec, {c.T, c.K}, DType::i32);
  const Tensor slot = test::from_ints(exec, {R}, Ints(R, 77));  // poison is -1: legal here
  route_plan(exec, {.count_E = count,
                    .offset_E1 = offset,
                    .row_of_slot_TK = row,
                    .slot_of_row_R = slot,
                    .index_TK = test::from_ints(exec, {c.T, c.K}, index),
                    .capacity = c.capacity});
  return {download_as<std::int32_t>(exec, count), download_as<std::int32_t>(exec, offset),
          download_as<std::int32_t>(exec, row), download_as<std::int32_t>(exec, slot)};
}

class RoutePlanTest : public test::BothDevices {
 protected:
  void expect_plan(const PlanCase& c, std::int64_t R) const {
    SCOPED_TRACE("T" + std::to_string(c.T) + " K" + std::to_string(c.K) + " E" +
                 std::to_string(c.E) + " capacity " + std::to_string(c.capacity));
    const Ints index = random_experts(c.T, c.K, c.E, c.even);
    const Plan got = run_plan(exec_, c, index, R), want = sorted_plan(index, c.E, c.capacity, R);
    EXPECT_EQ(got.count, want.count);
    EXPECT_EQ(got.offset, want.offset);
    EXPECT_EQ(got.row_of_slot, want.row_of_slot);
    EXPECT_EQ(got.slot_of_row, want.slot_of_row);
  }
};

TEST_P(RoutePlanTest, PlanIsTheStableSortByExpert) {
  const std::vector<PlanCase> cases = {
      {0, 2, 8},      {1, 1, 1},     {1, 1, 5},      {31, 1, 3},
      {33, 2, 7},     {64, 8, 8},    {128, 8, 512},  {127, 16, 61},
      {1021, 3, 128}, {4099, 2, 16}, {700, 5, 1024}, {3000, 2, 12, 0, true},
      {70001, 4, 60},
  };
  for (const PlanCase& c : cases) expect_plan(c, c.T * c.K);
}

TEST_P(RoutePlanTest, CapacityDropsTheLastTokensOfAnExpert) {
  const std::vector<PlanCase> cases = {
      {0, 2, 8, 3}, {33, 2, 7, 1}, {1021, 3, 16, 100}, {4099, 2, 8, 1000}, {64, 2, 4, 1000},
  };
  for (const PlanCase& c : cases) {
    expect_plan(c, c.T * c.K);
    expect_plan(c, std::min(c.T * c.K, c.E * c.capacity));
  }
}

TEST_P(RoutePlanTest, PlanCountsItsScratch) {
  const Exec real = test::make_exec(GetParam()), dry = Exec::dry(GetParam());
  const Ints index = random_experts(3000, 2, 16);
  const Tensor index_TK = test::from_ints(real, {3000, 2}, index);
  const Tensor a = test::poisoned(real, {6000}, DType::i32);
  for (const Exec* exec : {&real, &dry}) {
    route_plan(*exec, {.count_E = test::poisoned(real, {16}, DType::i32),
                       .offset_E1 = test::poisoned(real, {17}, DType::i32),
                       .row_of_slot_TK = a.view().reshape({3000, 2}),
                       .slot_of_row_R = test::poisoned(real, {6000}, DType::i32),
                       .index_TK = index_TK});
    real.synchronize();
  }
  EXPECT_EQ(real.arena().plan().scratch, dry.arena().plan().scratch);
}

TEST_P(RoutePlanTest, PlanRejectsTooFewRows) {
  EXPECT_THROW(run_plan(exec_, {4, 2, 8}, random_experts(4, 2, 8), 7), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, RoutePlanTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
