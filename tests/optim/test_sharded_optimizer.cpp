#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "parallel/sharded_layout.hpp"
#include "shoal/nn/model_layout.hpp"
#include "shoal/optim/optimizer.hpp"
#include "shoal/parallel/gradient_reducer.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::optim {
namespace {

using parallel::ParallelConfig;
using parallel::RowShard;

struct Options {
  ParallelConfig parallel;
  OptimizerConfig optim;
  DType elem = DType::f32;
};

/// One rank of a layout with all that a step needs after its backward pass.
struct Rank {
  Rank(const Communicator& world, const Options& options)
      : groups{world, options.parallel},
        layout{test::sharded_layout(groups.layout(), world.rank())},
        plan{layout, groups.layout(), world.rank(), options.parallel.zero},
        factory{world, DeviceKind::cpu},
        exec{DeviceKind::cpu, measure(options)},
        store{exec, layout, options.elem, true},
        reducer{exec,
                {.store = &store,
                 .plan = &plan,
                 .groups = &groups,
                 .factory = &factory,
                 .options = {.bucket_elements = 64}}},
        optimizer{exec, store, plan, options.optim},
        inputs{DeviceKind::cpu, {sizeof(StepInputs)}, DType::u8} {
    optimizer.reset(exec);
    for (const RowShard& shard : plan.shards()) {
      std::vector<float> values;
      for_each(shard, [&](const auto&, std::int64_t global, std::int64_t) {
        values.push_back(0.01F * static_cast<float>(global % 97) - 0.4F);
      });
      optimizer.set_master(exec, {.parameter = shard.parameter, .count = shard.elements()},
                           values.data());
    }
  }
  [[nodiscard]] ArenaPlan measure(const Options& options) const {
    const Exec dry = Exec::dry(DeviceKind::cpu);
    const nn::ParameterStore counted{dry, layout, options.elem, true};
    const int ranks = groups.world().size(), rank = groups.world().rank();
    const auto paper = parallel::ProcessGroups::on_paper(options.parallel, ranks, rank);
    const comm::CollectivesFactory nobody{paper.world(), DeviceKind::cpu};
    parallel::GradientReducer counting{dry,
                                       {.store = &counted,
                                        .plan = &plan,
                                        .groups = &paper,
                                        .factory = &nobody,
                                        .options = {.bucket_elements = 64}}};
    const Optimizer counting_optimizer{dry, counted, plan, options.optim};
    counting.finish(dry);
    counting_optimizer.step(dry);
    counting.gather_weights(dry);
    return dry.arena().plan();
  }
  /// f(spec, global index, element of its buffer) for local elements in order.
  template <class F>
  void for_each(const RowShard& shard, F f) const {
    const nn::Parameter& p = layout.parameters()[static_cast<std::size_t>(shard.parameter)];
    for (std::int64_t local = 0; local < p.storage.elements(); ++local) {
      f(p.spec, nn::global_run(p.spec, local).global,
        nn::storage_runs(p.storage, local, 1).front().offset);
    }
  }
  /// Sets partial gradients g(spec, global index, replicas, place among them) of all elements.
  template <class G>
  void set_gradients(G g) const {
    for (const RowShard& shard : plan.shards()) {
      const int copies = shard.tied ? plan.tied_ranks() : 1;
      const int place = shard.tied && plan.tied_ranks() == 2 ? groups.tied().rank() : 0;
      for_each(shard, [&](const auto& spec, std::int64_t global, std::int64_t at) {
        store.gradients().data<float>()[layout.gradient_base(spec.keep_f32) + at] =
            g(global, shard.member.size * copies, shard.member.rank * copies + place);
      });
    }
  }
  void step(const StepInputs& in, const ConstTensorView& overflow = {}) {
    std::memcpy(inputs.view().bytes_begin(), &in, sizeof in);
    optimizer.take_inputs(exec, inputs.view().bytes_begin());
    reducer.begin_step();
    reducer.finish(exec);
    optimizer.step(exec, {.world = reducer.world(), .overflow = overflow});
    reducer.gather_weights(exec);
  }
  [[nodiscard]] float weight(const nn::ParameterSpec& spec, std::int64_t at) const {
    if (spec.keep_f32) return store.f32_values().data<float>()[at];
    if (store.elem_dtype() == DType::f32) return store.elem_values().data<float>()[at];
    return to_float(store.elem_values().data<Bf16>()[at]);
  }
  [[nodiscard]] ops::StepState state() const {
    ops::StepState s;
    std::memcpy(&s, optimizer.state().bytes_begin(), sizeof s);
    return s;
  }

  parallel::ProcessGroups groups;
  nn::ParameterLayout layout;
  parallel::ShardPlan plan;
  comm::CollectivesFactory factory;
  Exec exec;
  nn::ParameterStore store;
  parallel::GradientReducer reducer;
  Optimizer optimizer;
  Tensor inputs;
};

/// Parts of whole numbers that add up to the same sum, exactly, over any number of replicas.
float partial(std::int64_t global, int replicas, int place) {
  const auto sum = static_cast<float>(global * 7 % 31 - 15);
  return place == 0 ? sum - static_cast<float>(3 * (replicas - 1)) : 3.0F;
}

std::vector<ParallelConfig> configs(int ranks) {
  std::vector<ParallelConfig> all = {{}, {.zero = false}};
  if (ranks >= 2)
    all.insert(all.end(), {{.tp = 2}, {.ep = 2}, {.pp = 2}, {.ep = 2, .zero = false}});
  if (ranks >= 4) {
    all.insert(all.end(), {{.tp = 2, .ep = 4},
                           {.tp = 2, .ep = 2, .zero = false},
                           {.tp = 2, .pp = 2, .ep = 2},
                           {.pp = 2, .ep = 2},
                           {.pp = 2, .zero = false}});
  }
  return all;
}

StepInputs inputs_of(int step) {
  return {.lr = 0.01F, .mu = 0.9F, .seed = 100 + step};
}

/// Every weight of every rank against one rank that was given the sums.
void expect_weights_of_one_rank(const Rank& many, const Rank& one) {
  for (const RowShard& shard : many.plan.shards()) {
    const std::string& name =
        many.layout.parameters()[static_cast<std::size_t>(shard.parameter)].spec.name;
    const auto index = &one.layout.find(name) - one.layout.parameters().data();
    const RowShard& whole = one.plan.shards()[static_cast<std::size_t>(index)];
    std::vector<float> want;  // by global index
    one.for_each(whole, [&](const auto& spec, std::int64_t, std::int64_t at) {
      want.push_back(one.weight(spec, at));
    });
    many.for_each(shard, [&](const auto& spec, std::int64_t global, std::int64_t at) {
      ASSERT_EQ(many.weight(spec, at), want[static_cast<std::size_t>(global)])
          << spec.name << " " << global << " on " << many.groups.layout().dense.describe()
          << (many.plan.zero() ? ", zero" : "");
    });
  }
}

TEST(ShardedOptimizer, AnyLayoutMovesWeightsByTheBitsOfOneRank) {
  const Communicator world = Communicator::world(), self = Communicator::self();
  for (const ParallelConfig& config : configs(world.size())) {
    for (const char* state : {"f32", "bf16"}) {
      for (const DType elem : {DType::f32, DType::bf16}) {
        const OptimizerConfig optim{.state_dtype = state};
        Rank many{world, {config, optim, elem}}, one{self, {{}, optim, elem}};
        for (int step = 0; step < 4; ++step) {
          many.set_gradients(partial);
          one.set_gradients(partial);
          many.step(inputs_of(step));
          one.step(inputs_of(step));
        }
        expect_weights_of_one_rank(many, one);
        EXPECT_EQ(many.state().grad_norm, one.state().grad_norm);
      }
    }
  }
}

TEST(ShardedOptimizer, NormCountsEachElementOnceOverTheWorld) {
  const Communicator world = Communicator::world();
  for (const ParallelConfig& config : configs(world.size())) {
    Rank many{world, {config, {.kind = "sgd", .clip_norm = 0.0}}};
    many.set_gradients(partial);
    many.step({});
    double squares = 0.0;
    const nn::ParameterLayout global = test::sharded_layout(parallel::make_layout({}, 1), 0);
    for (const nn::Parameter& p : global.parameters()) {
      for (std::int64_t i = 0; i < p.spec.shape.elements(); ++i) {
        const double sum{partial(i, 1, 0)};
        squares += sum * sum;
      }
    }
    EXPECT_EQ(many.state().grad_norm, static_cast<float>(std::sqrt(squares)))
        << many.groups.layout().dense.describe();
  }
}

TEST(ShardedOptimizer, OverflowOfOneRankSkipsTheStepOfAll) {
  const Communicator world = Communicator::world();
  Rank many{world, {}};
  const Tensor overflow{DeviceKind::cpu, {1}, DType::f32};
  float& flag = *overflow.view().data<float>();
  flag = world.rank() == world.size() - 1 ? 1.0F : 0.0F;
  const float before = *many.store.elem_values().data<float>();
  many.set_gradients(partial);
  many.step(inputs_of(0), overflow);
  EXPECT_EQ(many.state().skip, 1);
  EXPECT_EQ(*many.store.elem_values().data<float>(), before);
  flag = 0.0F;
  many.set_gradients(partial);
  many.step(inputs_of(1), overflow);
  EXPECT_EQ(many.state().skip, 0);
  EXPECT_NE(*many.store.elem_values().data<float>(), before);
}

/// Bytes of optimizer states of one rank, from a dry run.
std::int64_t optimizer_bytes(const nn::ParameterLayout& layout, int ranks, int rank, bool zero) {
  const parallel::ShardPlan plan{layout, parallel::make_layout({}, ranks), rank, zero};
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const nn::ParameterStore store{dry, layout, DType::bf16, true};
  const Optimizer optimizer{dry, store, plan, {}};
  return dry.arena().plan().by_kind[static_cast<std::size_t>(MemoryKind::optimizer)];
}

TEST(ShardedOptimizer, AQuarterOfTheStatesIsHeldByEachOfFourRanks) {
  nn::ModelConfig model;
  model.vocab_size = 1000;
  const nn::RankLayout whole = nn::make_layout(model, nn::whole_model(model));
  const std::int64_t alone = optimizer_bytes(whole.parameters, 1, 0, true);
  for (int rank = 0; rank < 4; ++rank) {
    const std::int64_t quarter = optimizer_bytes(whole.parameters, 4, rank, true);
    EXPECT_LE(static_cast<double>(quarter), 0.25 * 1.01 * static_cast<double>(alone));
    EXPECT_GE(static_cast<double>(quarter), 0.25 * 0.99 * static_cast<double>(alone));
    EXPECT_EQ(optimizer_bytes(whole.parameters, 4, rank, false), alone);
  }
}

TEST(ShardedOptimizer, MasterWeightsOfHeldRowsReadBack) {
  const Communicator world = Communicator::world();
  for (const DType elem : {DType::f32, DType::bf16, DType::f16}) {
    const Rank many{world, {.elem = elem}};
    for (const RowShard& shard : many.plan.shards()) {
      std::vector<float> values;
      for (std::int64_t i = 0; i < shard.elements(); ++i) {
        values.push_back(std::nextafter(1.0F / static_cast<float>(i + 3), 1.0F));
      }
      many.optimizer.set_master(
          many.exec, {.parameter = shard.parameter, .count = shard.elements()}, values.data());
      const std::int64_t first = shard.first_element(), count = shard.held_elements();
      std::vector<float> back(static_cast<std::size_t>(count));
      many.optimizer.get_master(
          many.exec, {.parameter = shard.parameter, .first = first, .count = count}, back.data());
      EXPECT_EQ(back, (std::vector<float>{values.begin() + first, values.begin() + first + count}));
      if (count == shard.elements()) continue;
      EXPECT_THROW(
          many.optimizer.get_master(
              many.exec, {.parameter = shard.parameter, .count = shard.elements()}, values.data()),
          Error);
    }
  }
}

}  // namespace
}  // namespace shoal::optim
