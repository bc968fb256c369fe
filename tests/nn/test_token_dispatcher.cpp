#include "shoal/nn/token_dispatcher.hpp"

#include <gtest/gtest.h>

#include "harness.hpp"

namespace shoal::nn::test {
namespace {

TEST(LocalDispatcher, CapacityIsAShareOfTheEvenLoad) {
  Exec exec = make_exec(DeviceKind::cpu, 1);
  const Tensor index = from_ints(exec, {4, 2}, {0, 1, 0, 1, 0, 2, 0, 2});
  const auto kept = [&](double factor) {
    LocalDispatcher dispatcher{4, factor};
    const DispatchPlan plan = dispatcher.reserve(exec.scratch(), 4, 2);
    dispatcher.plan(exec, plan, {.index_TK = index, .weight_TK = {}});
    return download_floats(exec, plan.count_E);
  };
  EXPECT_EQ(kept(0.0), (std::vector<float>{4, 2, 2, 0})) << "dropless";
  EXPECT_EQ(kept(1.0), (std::vector<float>{2, 2, 2, 0})) << "8 slots / 4 experts";
  EXPECT_EQ(kept(1.2), (std::vector<float>{3, 2, 2, 0})) << "rounded up";
  EXPECT_EQ(kept(0.01), (std::vector<float>{1, 1, 1, 0})) << "at least one";
}

TEST(LocalDispatcher, CombineUndoesDispatch) {
  Exec exec = make_exec(DeviceKind::cpu, 1);
  LocalDispatcher dispatcher{3};
  const Tensor index = from_ints(exec, {3, 2}, {2, 0, 1, 2, 0, 1});
  const Tensor x = normal(exec, {3, 5}, DType::f32, 1);
  const Tensor weight = from_values(exec, {3, 2}, DType::f32, {0.25F, 0.75F, 0.5F, 0.5F, 1, 0});
  const Tensor rows = poisoned(exec, {6, 5}, DType::f32), y = poisoned(exec, {3, 5}, DType::f32);
  const DispatchPlan plan = dispatcher.reserve(exec.scratch(), 3, 2);
  dispatcher.plan(exec, plan, {.index_TK = index, .weight_TK = {}});
  dispatcher.dispatch(exec, {.rows_RD = rows, .x_TD = x}, plan);
  dispatcher.combine(exec, {.y_TD = y, .rows_RD = rows, .weight_TK = weight}, plan);
  EXPECT_TRUE(all_near(download_floats(exec, y), download_floats(exec, x), {1e-6, 1e-6}));
  EXPECT_EQ(download_floats(exec, plan.rows_limit()), std::vector<float>{6});
}

}  // namespace
}  // namespace shoal::nn::test
