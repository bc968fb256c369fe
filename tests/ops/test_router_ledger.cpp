#include "shoal/ops/router_ledger.hpp"

#include <gtest/gtest.h>

#include "both_devices.hpp"

namespace shoal::test {
namespace {

class RouterLedgerAdd : public BothDevices {};

/// Counts and scores of S groups of `tokens` / S tokens, and what they add to a ledger.
struct Problem {
  std::int64_t S, E, K, tokens;
  std::vector<std::int32_t> count, kept;
  std::vector<float> mean;
  std::vector<double> expected_count;
  double aux = 0.0, dropped = 0.0;
  Problem(std::int64_t s, std::int64_t e, std::int64_t k, std::int64_t t)
      : S{s}, E{e}, K{k}, tokens{t}, kept(static_cast<std::size_t>(e), 0) {
    expected_count.resize(static_cast<std::size_t>(e));
    std::int64_t rows = 0;
    for (std::int64_t i = 0; i < S * E; ++i) {
      const auto at = static_cast<std::size_t>(i % E);
      count.push_back(static_cast<std::int32_t>((i * 7 + 3) % 11));
      mean.push_back(static_cast<float>((i * 5) % 13) / 16.0F);
      expected_count[at] += count.back();
      kept[at] += count.back() / 2;
      rows += count.back() / 2;
      aux += count.back() * double{mean.back()} * static_cast<double>(E * S) /
             static_cast<double>(K * tokens);
    }
    dropped = static_cast<double>(tokens * K - rows);
  }
};

TEST_P(RouterLedgerAdd, AddsCountsAndSumsAtEdgeSizes) {
  for (const Problem& p : {Problem{1, 1, 1, 1}, Problem{3, 5, 2, 33}, Problem{2, 257, 8, 1024},
                           Problem{67, 31, 1, 67}}) {
    const Tensor count = from_values(exec_, {p.E}, DType::f32,
                                     std::vector<float>(static_cast<std::size_t>(p.E), 2.0F));
    const Tensor sums = from_values(exec_, {4}, DType::f32, {1, 2, 3, 4});
    ops::router_ledger_add(exec_,
                           {.count_E = count,
                            .sums = sums,
                            .count_SE = from_ints(exec_, {p.S, p.E}, p.count),
                            .mean_score_SE = from_values(exec_, {p.S, p.E}, DType::f32, p.mean),
                            .entropy_sum = from_values(exec_, {1}, DType::f32, {0.5F}),
                            .z_sum = from_values(exec_, {1}, DType::f32, {0.25F}),
                            .kept_E = from_ints(exec_, {p.E}, p.kept),
                            .tokens = p.tokens,
                            .slots_per_token = p.K});
    const std::vector<float> got = download_floats(exec_, count);
    for (std::size_t e = 0; e < got.size(); ++e) EXPECT_EQ(got[e], 2.0 + p.expected_count[e]);
    const std::vector<float> total = download_floats(exec_, sums);
    EXPECT_EQ(total[0], 1.5F);
    EXPECT_EQ(total[1], 2.25F);
    EXPECT_NEAR(total[2], 3.0 + p.aux, 1e-5 * p.aux);
    EXPECT_EQ(total[3], static_cast<float>(4.0 + p.dropped));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterLedgerAdd, both_devices(), device_name);

}  // namespace
}  // namespace shoal::test
