#include <gtest/gtest.h>

#include <memory>

#include "shoal/nn/moe.hpp"
#include "shoal/nn/shard_group.hpp"
#include "shoal/parallel/expert_dispatcher.hpp"
#include "shoal/parallel/process_groups.hpp"
#include "support/tensors.hpp"

// A whole MoE layer (router, experts on all ranks, shared expert) against one rank.
namespace shoal::parallel {
namespace {

using test::all_near;
using test::normal;
using test::poisoned;

constexpr std::int64_t kTokens = 12, kHidden = 16, kWidth = 8, kExperts = 8, kSlots = 3;

nn::ModelConfig config() {
  nn::ModelConfig c;
  c.num_experts = kExperts;
  c.num_experts_per_tok = kSlots;
  c.router_aux_loss_coef = 0.0;
  c.router_z_loss_coef = 0.0;
  return c;
}

/// Experts [first, first + count) of the layer; everything else is the same on all ranks.
struct Weights {
  Tensor router, gate_up, down, shared_gate_up, shared_down;
  std::vector<Tensor> gradients;
  Tensor ledger_count, ledger_sums;
  std::int64_t first, count;

  Weights(const Exec& exec, DType elem, std::int64_t first_expert, std::int64_t experts)
      : router{normal(exec, {kExperts, kHidden}, DType::f32, 1)},
        gate_up{normal(exec, {kExperts, 2 * kWidth, kHidden}, elem, 2, 0.3F)},
        down{normal(exec, {kExperts, kHidden, kWidth}, elem, 3, 0.3F)},
        shared_gate_up{normal(exec, {2 * kWidth, kHidden}, elem, 4, 0.3F)},
        shared_down{normal(exec, {kHidden, kWidth}, elem, 5, 0.3F)},
        ledger_count{exec.device(), {kExperts}, DType::f32},
        ledger_sums{exec.device(), {4}, DType::f32},
        first{first_expert},
        count{experts} {
    zero(exec, ledger_count);
    zero(exec, ledger_sums);
    for (const TensorView& value :
         {router.view(), part(gate_up), part(down), shared_gate_up.view(), shared_down.view()}) {
      gradients.push_back(poisoned(exec, value.shape(), DType::f32));
    }
  }
  [[nodiscard]] TensorView part(const Tensor& all) const { return all.view().rows(first, count); }
  [[nodiscard]] nn::Moe layer(nn::TokenDispatcher& dispatcher, nn::ShardGroup& group) const {
    return nn::Moe{
        {.router = nn::Router{config(), {router, gradients[0]}, {}, &group},
         .experts = nn::Experts{{part(gate_up), gradients[1]}, {part(down), gradients[2]}},
         .shared = nn::Mlp{{shared_gate_up, gradients[3]}, {shared_down, gradients[4]}, &group},
         .dispatcher = &dispatcher,
         .ledger = {.layer = 0, .count_E = ledger_count, .sums = ledger_sums}}};
  }
};

/// y, dx and gradients in the order of Weights.
struct Results {
  std::vector<float> y, dx;
  std::vector<std::vector<float>> gradients;
};

Results run(const Exec& exec, const nn::Moe& moe, const Weights& weights, const TensorView& x,
            const TensorView& dy, nn::Recompute recompute) {
  const ScratchScope scope{exec};
  const nn::Batch batch{.sequence = kTokens};
  const nn::StepScalars scalars;
  const nn::Pass pass{.batch = batch, .scalars = scalars};
  const Tensor y = poisoned(exec, x.shape(), x.dtype()), dx = poisoned(exec, x.shape(), x.dtype());
  const std::int64_t T = x.dim(0);
  const nn::MoeSaved saved = moe.reserve(exec.scratch(), batch, T, recompute);
  nn::MoeDelta delta = moe.reserve_delta(exec.scratch(), T);
  moe.forward(exec, pass, {.y_TD = y, .x_TD = x, .add_TD = dy}, saved);
  moe.backward_input(exec, pass, {.dx_TD = dx, .dy_TD = dy}, saved, delta);
  moe.backward_weight(exec, x, saved, delta, ops::Accumulate::overwrite);
  Results results{.y = download_floats(exec, y), .dx = download_floats(exec, dx), .gradients = {}};
  for (const Tensor& g : weights.gradients) results.gradients.push_back(download_floats(exec, g));
  return results;
}

std::vector<float> cut(const std::vector<float>& all, std::int64_t part, std::int64_t parts) {
  const std::int64_t size = static_cast<std::int64_t>(all.size()) / parts;
  return {all.begin() + part * size, all.begin() + (part + 1) * size};
}

class MoeExchange : public ::testing::TestWithParam<DType> {};

TEST_P(MoeExchange, EqualsOneRank) {
  const Communicator world = Communicator::world();
  const ProcessGroups groups{world, {.ep = world.size()}};
  const auto collectives = comm::make_host_collectives(groups.ep(), DeviceKind::cpu);
  const Exec exec = test::make_exec(DeviceKind::cpu, 16);
  const int P = world.size(), me = world.rank();
  const Tensor x = normal(exec, {P * kTokens, kHidden}, GetParam(), 6);
  const Tensor dy = normal(exec, {P * kTokens, kHidden}, GetParam(), 7);
  nn::LocalShardGroup group;
  nn::LocalDispatcher local{kExperts};
  ExpertDispatcher exchange{
      {.experts = kExperts, .group = groups.ep(), .collectives = *collectives}, DeviceKind::cpu};
  const Weights all{exec, GetParam(), 0, kExperts};
  const Weights mine{exec, GetParam(), kExperts / P * me, kExperts / P};
  const auto close = test::tolerance(GetParam(), 4 * kTokens);
  for (const nn::Recompute recompute : {nn::Recompute::none, nn::Recompute::selective}) {
    const Results want = run(exec, all.layer(local, group), all, x, dy, recompute);
    Results got = run(exec, mine.layer(exchange, group), mine, x.view().rows(me * kTokens, kTokens),
                      dy.view().rows(me * kTokens, kTokens), recompute);
    EXPECT_TRUE(all_near(got.y, cut(want.y, me, P), close));
    EXPECT_TRUE(all_near(got.dx, cut(want.dx, me, P), close));
    for (const std::size_t i : {1, 2}) {  // experts are whole, here
      EXPECT_TRUE(all_near(got.gradients[i], cut(want.gradients[i], me, P), close)) << i;
    }
    for (const std::size_t i : {0, 3, 4}) {  // others are sums over the ranks
      world.all_reduce(got.gradients[i], comm::ReduceOp::sum);
      EXPECT_TRUE(all_near(got.gradients[i], want.gradients[i], close)) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, MoeExchange, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string{name(info.param)}; });

}  // namespace
}  // namespace shoal::parallel
