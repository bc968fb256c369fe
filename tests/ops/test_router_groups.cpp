// Balance groups whose tokens lie on several ranks: every rank's part adds up to whole groups.
#include "shoal/ops/router_groups.hpp"

#include <numeric>

#include "ops/both_devices.hpp"
#include "shoal/ops/router.hpp"
#include "shoal/ops/router_ledger.hpp"

namespace shoal::ops {
namespace {

using RouterGroups = test::BothDevices;
using Ints = std::vector<std::int32_t>;

Ints ints(const Exec& exec, const Tensor& tensor) {
  Ints values(static_cast<std::size_t>(tensor.view().elements()));
  download(exec, values.data(), tensor.view().bytes_begin(), tensor.view().bytes());
  exec.synchronize();
  return values;
}

TEST_P(RouterGroups, CountsAreThoseOfTheWholeGroup) {
  const Tensor all = test::from_ints(exec_, {6, 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const Tensor count = test::from_ints(exec_, {3, 2}, Ints(6, -1));
  router_group_counts(exec_,
                      {.count_FE = count, .fragment_AE = all, .first = 2, .fragments_each = 3});
  EXPECT_EQ(ints(exec_, count), (Ints{9, 12, 27, 30, 27, 30}));
  EXPECT_THROW(router_group_counts(
                   exec_, {.count_FE = count, .fragment_AE = all, .first = 2, .fragments_each = 4}),
               Error);
}

constexpr std::int64_t kT = 96, kE = 5, kK = 2, kGroup = 32;

/// Routing of all tokens and the statistics of blocks of `block` of them.
struct Routing {
  Routing(const Exec& exec, RouterScore kind) : exec{exec}, kind{kind} {
    const Tensor logits = test::normal(exec, {kT, kE}, DType::f32, 3);
    logits_TE = download_floats(exec, logits);
    const Tensor index{exec.device(), {kT, kK}, DType::i32};
    const Tensor weight{exec.device(), {kT, kK}, DType::f32};
    const Tensor score{exec.device(), {kT, kE}, DType::f32};
    router_forward(exec, {.index_TK = index,
                          .weight_TK = weight,
                          .score_TE = score,
                          .logits_TE = logits,
                          .score = kind});
    index_TK = ints(exec, index);
    weight_TK = download_floats(exec, weight);
    score_TE = download_floats(exec, score);
    dweight_TK = download_floats(exec, test::normal(exec, {kT, kK}, DType::f32, 4));
  }
  template <class T>
  [[nodiscard]] static std::vector<T> part(const std::vector<T>& all, std::int64_t first,
                                           std::int64_t tokens) {
    const auto width = static_cast<std::int64_t>(all.size()) / kT;
    return {all.begin() + first * width, all.begin() + (first + tokens) * width};
  }

  struct Part {
    std::vector<float> dlogits, sums, count;
  };
  /// Tokens [first, first + tokens) as blocks of `block`; group_SE: counts of the whole groups.
  Part run(std::int64_t first, std::int64_t tokens, std::int64_t block, const Ints& group_SE) const;
  [[nodiscard]] Ints block_counts(std::int64_t block) const;

  const Exec& exec;
  RouterScore kind;
  Ints index_TK;
  std::vector<float> logits_TE, weight_TK, score_TE, dweight_TK;
};

Ints Routing::block_counts(std::int64_t block) const {
  Ints counts(static_cast<std::size_t>(kT / block * kE), 0);
  for (std::int64_t i = 0; i < kT * kK; ++i) {
    ++counts[static_cast<std::size_t>(i / kK / block * kE + index_TK[static_cast<std::size_t>(i)])];
  }
  return counts;
}

Routing::Part Routing::run(std::int64_t first, std::int64_t tokens, std::int64_t block,
                           const Ints& group_SE) const {
  const std::int64_t S = tokens / block;
  const auto floats = [&](const std::vector<float>& all, std::int64_t width) {
    return test::from_values(exec, {tokens, width}, DType::f32, part(all, first, tokens));
  };
  const Tensor index = test::from_ints(exec, {tokens, kK}, part(index_TK, first, tokens));
  const Tensor score = floats(score_TE, kE), logits = floats(logits_TE, kE);
  const Tensor count{exec.device(), {S, kE}, DType::i32}, mean{exec.device(), {S, kE}, DType::f32};
  const Tensor entropy = test::poisoned(exec, {1}, DType::f32);
  const Tensor z = test::poisoned(exec, {1}, DType::f32);
  router_statistics(exec, {.count_SE = count,
                           .mean_score_SE = mean,
                           .entropy_sum = entropy,
                           .z_sum = z,
                           .index_TK = index,
                           .score_TE = score,
                           .logits_TE = logits,
                           .score = kind});
  const Tensor group = test::from_ints(exec, {S, kE}, group_SE);
  const Tensor sums = test::from_values(exec, {4}, DType::f32, {0, 0, 0, 0});
  const Tensor count_E = test::from_values(exec, {kE}, DType::f32, std::vector<float>(kE, 0.0F));
  const Tensor kept = test::from_ints(exec, {1}, {static_cast<std::int32_t>(tokens * kK) - 1});
  router_ledger_add(exec, {.count_E = count_E,
                           .sums = sums,
                           .count_SE = count,
                           .mean_score_SE = mean,
                           .entropy_sum = entropy,
                           .z_sum = z,
                           .kept_E = kept,
                           .group_count_SE = group,
                           .group_tokens = kGroup,
                           .tokens = tokens,
                           .slots_per_token = kK});
  const Tensor dlogits = test::poisoned(exec, {tokens, kE}, DType::f32);
  router_backward(exec, {.dlogits_TE = dlogits,
                         .dweight_TK = floats(dweight_TK, kK),
                         .index_TK = index,
                         .weight_TK = floats(weight_TK, kK),
                         .score_TE = score,
                         .logits_TE = logits,
                         .count_SE = group,
                         .aux_scale = test::from_values(exec, {1}, DType::f32, {3.0F}),
                         .z_scale = test::from_values(exec, {1}, DType::f32, {0.1F}),
                         .group_tokens = kGroup,
                         .score = kind});
  return {download_floats(exec, dlogits), download_floats(exec, sums),
          download_floats(exec, count_E)};
}

TEST_P(RouterGroups, FragmentsAddUpToTheLedgerAndGradientOfWholeGroups) {
  for (const RouterScore kind : {RouterScore::softmax, RouterScore::sigmoid}) {
    const Routing routing{exec_, kind};
    const Ints whole = routing.block_counts(kGroup);
    const Routing::Part want = routing.run(0, kT, kGroup, whole);
    for (const std::int64_t ranks : {2, 4}) {
      const std::int64_t tokens = kT / ranks, block = std::gcd(tokens, kGroup);
      Routing::Part sum{
          .dlogits = {}, .sums = std::vector<float>(4), .count = std::vector<float>(kE)};
      for (std::int64_t r = 0; r < ranks; ++r) {
        Ints group;
        for (std::int64_t t = r * tokens; t < (r + 1) * tokens; t += block) {
          const auto row = whole.begin() + t / kGroup * kE;
          group.insert(group.end(), row, row + kE);
        }
        const Routing::Part got = routing.run(r * tokens, tokens, block, group);
        sum.dlogits.insert(sum.dlogits.end(), got.dlogits.begin(), got.dlogits.end());
        for (std::size_t i = 0; i < 4; ++i) sum.sums[i] += got.sums[i];
        for (std::size_t e = 0; e < kE; ++e) sum.count[e] += got.count[e];
      }
      EXPECT_TRUE(test::all_equal(sum.dlogits, want.dlogits));
      EXPECT_EQ(sum.count, want.count);
      for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(sum.sums[i] / want.sums[i], 1.0, 1e-5) << i;
      EXPECT_EQ(sum.sums[3], static_cast<float>(ranks));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterGroups, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
