#include "shoal/ops/permute.hpp"

#include "ops/both_devices.hpp"
#include "ops/permute_reference.hpp"

namespace shoal::ops {
namespace {

using test::Ints;
using test::Plan;
using test::random_experts;
using test::sorted_plan;

/// Rows and slots of a routing in which some slots were dropped, and tensors that hold them.
struct Routed {
  std::int64_t T, K, D, R;
  DType dtype;
  Ints row_of_slot, slot_of_row;
  Tensor row_TK, slot_R, rows, weight;
};

Routed make_routed(const Exec& exec, std::int64_t T, std::int64_t K, std::int64_t D, DType dtype) {
  const std::int64_t E = 4, R = T * K;
  const Plan p = sorted_plan(random_experts(T, K, E), E, std::max<std::int64_t>(T / 3, 1), R);
  return {T,
          K,
          D,
          R,
          dtype,
          p.row_of_slot,
          p.slot_of_row,
          test::from_ints(exec, {T, K}, p.row_of_slot),
          test::from_ints(exec, {R}, p.slot_of_row),
          test::normal(exec, {R, D}, dtype, 11),
          test::normal(exec, {T, K}, DType::f32, 12)};
}

using PermuteTest = test::BothDevices;

struct RowsCase {
  std::int64_t T, K, D;
  DType dtype;
};
const std::vector<RowsCase> kRowsCases = {
    {0, 2, 8, DType::f32},     {1, 1, 1, DType::f32},      {1, 4, 8, DType::bf16},
    {31, 2, 31, DType::bf16},  {33, 4, 32, DType::f16},    {7, 1, 33, DType::f32},
    {127, 3, 257, DType::f16}, {61, 2, 1024, DType::bf16}, {5, 4, 516, DType::f32},
};
std::string text(const RowsCase& c) {
  return "T" + std::to_string(c.T) + " K" + std::to_string(c.K) + " D" + std::to_string(c.D) + " " +
         std::string{name(c.dtype)};
}

TEST_P(PermuteTest, GatherAndScatterCopyRowsAndLeaveTheRest) {
  for (const RowsCase& c : kRowsCases) {
    SCOPED_TRACE(text(c));
    const Routed r = make_routed(exec_, c.T, c.K, c.D, c.dtype);
    const Tensor x = test::normal(exec_, {c.T, c.D}, c.dtype, 13);
    const Tensor rows = test::poisoned(exec_, {r.R, c.D}, c.dtype);
    auto want = download_floats(exec_, rows);
    const auto values = download_floats(exec_, x);
    for (std::int64_t i = 0; i < r.R * c.D; ++i) {
      const std::int64_t slot = r.slot_of_row[i / c.D];
      if (slot >= 0) want[i] = values[slot / c.K * c.D + i % c.D];
    }
    gather_rows(exec_,
                {.rows_RD = rows, .x_TD = x, .slot_of_row_R = r.slot_R, .slots_per_token = c.K});
    EXPECT_TRUE(test::all_equal(download_floats(exec_, rows), want));
    const Tensor scattered = test::poisoned(exec_, {r.R, c.D}, c.dtype);
    scatter_rows(exec_, {.rows_RD = scattered, .x_TD = x, .row_of_slot_TK = r.row_TK});
    EXPECT_TRUE(test::all_equal(download_floats(exec_, scattered), want));
  }
}

/// y = add + sum_k weight * rows in double.
std::vector<double> combined(const Routed& r, const std::vector<float>& rows,
                             const std::vector<float>& weight, const std::vector<float>& add) {
  std::vector<double> y(r.T * r.D);
  for (std::int64_t i = 0; i < r.T * r.D; ++i) {
    y[i] = add.empty() ? 0.0 : add[i];
    for (std::int64_t slot = i / r.D * r.K; slot < (i / r.D + 1) * r.K; ++slot) {
      const std::int64_t row = r.row_of_slot[slot];
      if (row < 0) continue;
      y[i] += (weight.empty() ? 1.0 : double{weight[slot]}) * rows[row * r.D + i % r.D];
    }
  }
  return y;
}

TEST_P(PermuteTest, CombineMatchesDoubleLoops) {
  for (const RowsCase& c : kRowsCases) {
    const Routed r = make_routed(exec_, c.T, c.K, c.D, c.dtype);
    const Tensor add = test::normal(exec_, {c.T, c.D}, c.dtype, 14);
    for (const bool weighted : {false, true}) {
      for (const bool adds : {false, true}) {
        SCOPED_TRACE(text(c) + (weighted ? " weighted" : "") + (adds ? " added" : ""));
        const Tensor y = test::poisoned(exec_, {c.T, c.D}, c.dtype);
        const ConstTensorView none;
        combine_rows(exec_, {.y_TD = y,
                             .rows_RD = r.rows,
                             .row_of_slot_TK = r.row_TK,
                             .weight_TK = weighted ? ConstTensorView{r.weight} : none,
                             .add_TD = adds ? ConstTensorView{add} : none});
        const auto want =
            combined(r, download_floats(exec_, r.rows),
                     weighted ? download_floats(exec_, r.weight) : std::vector<float>{},
                     adds ? download_floats(exec_, add) : std::vector<float>{});
        EXPECT_TRUE(test::all_near(download_floats(exec_, y), {want.begin(), want.end()},
                                   test::tolerance(c.dtype, c.K)));
      }
    }
  }
}

TEST_P(PermuteTest, GatherThenCombineSumsEachTokenOnceForEachSlot) {
  const std::int64_t T = 45, K = 3, D = 24;
  const Plan p = sorted_plan(random_experts(T, K, 5), 5, 0, T * K);
  const Tensor x = test::normal(exec_, {T, D}, DType::f32, 16);
  const Tensor rows = test::poisoned(exec_, {T * K, D}, DType::f32);
  const Tensor y = test::poisoned(exec_, {T, D}, DType::f32);
  gather_rows(exec_, {.rows_RD = rows,
                      .x_TD = x,
                      .slot_of_row_R = test::from_ints(exec_, {T * K}, p.slot_of_row),
                      .slots_per_token = K});
  combine_rows(exec_, {.y_TD = y,
                       .rows_RD = rows,
                       .row_of_slot_TK = test::from_ints(exec_, {T, K}, p.row_of_slot)});
  auto want = download_floats(exec_, x);
  for (float& value : want) value = value + value + value;
  EXPECT_TRUE(test::all_equal(download_floats(exec_, y), want));
}

INSTANTIATE_TEST_SUITE_P(Devices, PermuteTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
