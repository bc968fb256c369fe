#include "shoal/ops/exchange.hpp"

#include <bit>

#include "ops/both_devices.hpp"
#include "ops/permute_reference.hpp"
#include "shoal/ops/permute.hpp"

namespace shoal::ops {
namespace {

using test::from_ints;
using test::Ints;
using test::random_experts;

using ExchangeTest = test::BothDevices;

struct ExchangeCase {
  std::int64_t T, K, E, P;
  bool even = false;  ///< odd experts get no token
};
const std::vector<ExchangeCase> kCases = {
    {0, 2, 4, 2},        {1, 1, 1, 1},     {1, 4, 4, 4},        {31, 2, 6, 3},
    {33, 3, 8, 8, true}, {127, 4, 8, 2},   {61, 1, 7, 7},       {257, 5, 16, 4},
    {64, 8, 64, 8},      {1031, 6, 12, 3}, {13, 2, 4, 2, true},
};
std::string text(const ExchangeCase& c) {
  return "T" + std::to_string(c.T) + " K" + std::to_string(c.K) + " E" + std::to_string(c.E) +
         " P" + std::to_string(c.P);
}

/// Copies of tokens sorted by rank, by plain loops: at most `cap` (if positive) for each rank.
struct Copies {
  Ints target_TP, count_E, copy_TP, slot_S, copy_TK;
};
Copies reference(const ExchangeCase& c, const Ints& index, std::int64_t cap) {
  const std::int64_t per_rank = c.E / c.P;
  Copies r{Ints(c.T * c.P, -1), Ints(c.E), Ints(c.T * c.P, -1), {}, Ints(c.T * c.K)};
  for (std::int64_t i = 0; i < c.T * c.K; ++i) {
    const auto p = static_cast<std::int32_t>(index[i] / per_rank);
    r.target_TP[i / c.K * c.P + p] = p;
    ++r.count_E[index[i]];
  }
  for (std::int64_t p = 0; p < c.P; ++p) {
    std::int64_t taken = 0;
    for (std::int64_t i = p; i < c.T * c.P; i += c.P) {
      if (r.target_TP[i] < 0 || (cap > 0 && taken == cap)) continue;
      ++taken;
      r.copy_TP[i] = static_cast<std::int32_t>(r.slot_S.size());
      r.slot_S.push_back(static_cast<std::int32_t>(i));
    }
  }
  for (std::int64_t i = 0; i < c.T * c.K; ++i) {
    r.copy_TK[i] = r.copy_TP[i / c.K * c.P + index[i] / per_rank];
  }
  return r;
}

TEST_P(ExchangeTest, TargetsAndCountsMatchPlainLoops) {
  for (const ExchangeCase& c : kCases) {
    SCOPED_TRACE(text(c));
    const Ints index = random_experts(c.T, c.K, c.E, c.even);
    const Tensor target = test::poisoned(exec_, {c.T, c.P}, DType::i32);
    const Tensor count = test::poisoned(exec_, {c.E}, DType::i32);
    exchange_targets(
        exec_,
        {.target_TP = target, .count_E = count, .index_TK = from_ints(exec_, {c.T, c.K}, index)});
    const Copies want = reference(c, index, 0);
    EXPECT_EQ(download_as<std::int32_t>(exec_, target), want.target_TP);
    EXPECT_EQ(download_as<std::int32_t>(exec_, count), want.count_E);
  }
}

TEST_P(ExchangeTest, ASparseRoutePlanSortsCopiesByRank) {
  for (const ExchangeCase& c : kCases) {
    for (const std::int64_t cap : {0, 2}) {
      SCOPED_TRACE(text(c) + " cap " + std::to_string(cap));
      const Copies want = reference(c, random_experts(c.T, c.K, c.E, c.even), cap);
      const auto S = static_cast<std::int64_t>(want.slot_S.size());
      const Tensor count = test::poisoned(exec_, {c.P}, DType::i32);
      const Tensor offset = test::poisoned(exec_, {c.P + 1}, DType::i32);
      const Tensor copy = test::poisoned(exec_, {c.T, c.P}, DType::i32);
      const Tensor slot = test::poisoned(exec_, {S + 1}, DType::i32);
      route_plan(exec_, {.count_E = count,
                         .offset_E1 = offset,
                         .row_of_slot_TK = copy,
                         .slot_of_row_R = slot,
                         .index_TK = from_ints(exec_, {c.T, c.P}, want.target_TP),
                         .capacity = cap,
                         .sparse = true});
      Ints slots = want.slot_S;
      slots.push_back(-1);
      EXPECT_EQ(download_as<std::int32_t>(exec_, copy), want.copy_TP);
      EXPECT_EQ(download_as<std::int32_t>(exec_, slot), slots);
      EXPECT_EQ(download_as<std::int32_t>(exec_, offset).back(), S);
    }
  }
}

TEST_P(ExchangeTest, ChoicesTravelWithTheirCopy) {
  for (const ExchangeCase& c : kCases) {
    for (const std::int64_t cap : {0, 2}) {
      SCOPED_TRACE(text(c) + " cap " + std::to_string(cap));
      const Ints index = random_experts(c.T, c.K, c.E, c.even);
      const Copies r = reference(c, index, cap);
      const auto S = static_cast<std::int64_t>(r.slot_S.size());
      const Tensor weight = test::normal(exec_, {c.T, c.K}, DType::f32, 21);
      const Tensor choice = test::poisoned(exec_, {S, 2 * c.K}, DType::i32);
      const Tensor copy_of_slot = test::poisoned(exec_, {c.T, c.K}, DType::i32);
      exchange_pack(exec_, {.choice_SC = choice,
                            .copy_of_slot_TK = copy_of_slot,
                            .index_TK = from_ints(exec_, {c.T, c.K}, index),
                            .weight_TK = weight,
                            .copy_of_rank_TP = from_ints(exec_, {c.T, c.P}, r.copy_TP),
                            .slot_of_copy_S = from_ints(exec_, {S}, r.slot_S),
                            .experts_per_rank = c.E / c.P});
      EXPECT_EQ(download_as<std::int32_t>(exec_, copy_of_slot), r.copy_TK);
      const Tensor expert = test::poisoned(exec_, {S, c.K}, DType::i32);
      const Tensor arrived = test::poisoned(exec_, {S, c.K}, DType::f32);
      exchange_unpack(exec_, {.expert_NK = expert, .weight_NK = arrived, .choice_NC = choice});

      const auto w = download_floats(exec_, weight);
      Ints want_expert;
      std::vector<float> want_weight;
      for (const std::int32_t slot : r.slot_S) {
        for (std::int64_t k = 0; k < c.K; ++k) {
          const std::int64_t at = slot / c.P * c.K + k, p = slot % c.P;
          const bool here = index[at] / (c.E / c.P) == p;
          want_expert.push_back(here ? static_cast<std::int32_t>(index[at] - p * (c.E / c.P)) : -1);
          want_weight.push_back(here ? w[at] : 0.0F);
        }
      }
      EXPECT_EQ(download_as<std::int32_t>(exec_, expert), want_expert);
      EXPECT_TRUE(test::all_equal(download_floats(exec_, arrived), want_weight));
    }
  }
}

TEST_P(ExchangeTest, GatherSlotsReadsTheCopyOfEachSlot) {
  for (const ExchangeCase& c : kCases) {
    SCOPED_TRACE(text(c));
    const Copies r = reference(c, random_experts(c.T, c.K, c.E, c.even), 2);
    const auto S = static_cast<std::int64_t>(r.slot_S.size());
    const Tensor x = test::normal(exec_, {S, c.K}, DType::f32, 22);
    const Tensor y = test::poisoned(exec_, {c.T, c.K}, DType::f32);
    gather_slots(
        exec_, {.y_TK = y, .x_SK = x, .copy_of_slot_TK = from_ints(exec_, {c.T, c.K}, r.copy_TK)});
    const auto values = download_floats(exec_, x);
    std::vector<float> want;
    for (std::int64_t i = 0; i < c.T * c.K; ++i) {
      want.push_back(r.copy_TK[i] < 0 ? 0.0F : values[r.copy_TK[i] * c.K + i % c.K]);
    }
    EXPECT_TRUE(test::all_equal(download_floats(exec_, y), want));
  }
}

TEST_P(ExchangeTest, DroppedSlotsGoNowhere) {
  const Tensor index = from_ints(exec_, {3, 2}, {0, 3, 1, 2, 3, 0});
  drop_slots(exec_, {.kept_TK = index,
                     .index_TK = index,
                     .row_of_slot_TK = from_ints(exec_, {3, 2}, {0, -1, 2, 3, -1, -1})});
  EXPECT_EQ(download_as<std::int32_t>(exec_, index), (Ints{0, -1, 1, 2, -1, -1}));
  const Tensor target = test::poisoned(exec_, {3, 2}, DType::i32);
  const Tensor count = test::poisoned(exec_, {4}, DType::i32);
  exchange_targets(exec_, {.target_TP = target, .count_E = count, .index_TK = index});
  EXPECT_EQ(download_as<std::int32_t>(exec_, target), (Ints{0, -1, 0, 1, -1, -1}));
  EXPECT_EQ(download_as<std::int32_t>(exec_, count), (Ints{1, 1, 1, 0}));
  const Tensor choice = test::poisoned(exec_, {3, 4}, DType::i32);
  const Tensor copy_of_slot = test::poisoned(exec_, {3, 2}, DType::i32);
  const std::vector<float> ones(6, 1.0F);
  exchange_pack(exec_, {.choice_SC = choice,
                        .copy_of_slot_TK = copy_of_slot,
                        .index_TK = index,
                        .weight_TK = test::from_values(exec_, {3, 2}, DType::f32, ones),
                        .copy_of_rank_TP = from_ints(exec_, {3, 2}, {0, -1, 1, 2, -1, -1}),
                        .slot_of_copy_S = from_ints(exec_, {3}, {0, 2, 3}),
                        .experts_per_rank = 2});
  EXPECT_EQ(download_as<std::int32_t>(exec_, copy_of_slot), (Ints{0, -1, 1, 2, -1, -1}));
  const auto one = std::bit_cast<std::int32_t>(1.0F);
  EXPECT_EQ(download_as<std::int32_t>(exec_, choice),
            (Ints{0, -1, one, 0, 1, -1, one, 0, -1, 0, 0, one}));
}

TEST_P(ExchangeTest, RaiseToNeverLowers) {
  const Tensor x = test::from_values(exec_, {1}, DType::f32, {0.5F});
  raise_to(exec_, x, 2.0F);
  raise_to(exec_, x, 1.0F);
  EXPECT_EQ(download_floats(exec_, x), std::vector<float>{2.0F});
}

TEST(Exchange, ContractsAreCheckedOnADryExec) {
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const TensorView index = scratch(dry, {3, 2}, DType::i32);
  const TensorView target = scratch(dry, {3, 2}, DType::i32);
  const TensorView four = scratch(dry, {4}, DType::i32), five = scratch(dry, {5}, DType::i32);
  exchange_targets(dry, {.target_TP = target, .count_E = four, .index_TK = index});
  EXPECT_THROW(exchange_targets(dry, {.target_TP = target, .count_E = five, .index_TK = index}),
               Error);
  EXPECT_THROW(raise_to(dry, scratch(dry, {2}, DType::f32), 1.0F), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, ExchangeTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
