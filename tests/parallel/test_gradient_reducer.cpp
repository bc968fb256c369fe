#include "shoal/parallel/gradient_reducer.hpp"

#include <gtest/gtest.h>

#include "parallel/sharded_layout.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::parallel {
namespace {

/// Buckets of a few rows, so that parameters are cut and packed together.
constexpr std::int64_t kSmallBucket = 40;

struct BenchOptions {
  ParallelConfig config;
  ReduceOptions options = {.bucket_elements = kSmallBucket};
  DType elem = DType::f32;
};

/// A reducer of this rank over a real store.
struct Bench {
  Bench(const Communicator& world, const BenchOptions& bench)
      : groups{world, bench.config},
        layout{test::sharded_layout(groups.layout(), world.rank())},
        plan{layout, groups.layout(), world.rank(), bench.config.zero},
        factory{world, DeviceKind::cpu},
        exec{DeviceKind::cpu, measure(bench)},
        store{exec, layout, bench.elem, true},
        reducer{exec,
                {.store = &store,
                 .plan = &plan,
                 .groups = &groups,
                 .factory = &factory,
                 .options = bench.options}} {}

  [[nodiscard]] ArenaPlan measure(const BenchOptions& bench) const {
    const Exec dry = Exec::dry(DeviceKind::cpu);
    const nn::ParameterStore counted{dry, layout, bench.elem, true};
    const int ranks = groups.world().size(), rank = groups.world().rank();
    const auto paper = ProcessGroups::on_paper(bench.config, ranks, rank);
    const comm::CollectivesFactory nobody{paper.world(), DeviceKind::cpu};
    GradientReducer counting{dry,
                             {.store = &counted,
                              .plan = &plan,
                              .groups = &paper,
                              .factory = &nobody,
                              .options = bench.options}};
    counting.begin_step();
    counting.finish(dry);
    counting.gather_weights(dry);
    return dry.arena().plan();
  }
  /// f(spec, local element, element of the buffer) for all elements of a parameter.
  template <class F>
  void for_each(const RowShard& shard, F f) const {
    const nn::Parameter& p = layout.parameters()[static_cast<std::size_t>(shard.parameter)];
    for (const nn::StorageRun& run : nn::storage_runs(p.storage, 0, p.storage.elements())) {
      for (std::int64_t i = 0; i < run.count; ++i) f(p.spec, run.local + i, run.offset + i);
    }
  }
  [[nodiscard]] float& gradient(const nn::ParameterSpec& spec, std::int64_t at) const {
    return store.gradients().data<float>()[layout.gradient_base(spec.keep_f32) + at];
  }
  [[nodiscard]] std::int64_t index(const nn::ParameterSpec& spec, std::int64_t local) const {
    return nn::global_run(spec, local).global;
  }

  ProcessGroups groups;
  nn::ParameterLayout layout;
  ShardPlan plan;
  comm::CollectivesFactory factory;
  Exec exec;
  nn::ParameterStore store;
  GradientReducer reducer;
};

/// Small whole numbers: every sum of them is exact in fp32, and in bf16 too.
float partial(int rank, std::int64_t global) {
  return static_cast<float>(rank + 1 + global % 5);
}

/// Sum of partial() over the replicas of a parameter, tied ends included.
float total(const Bench& b, const RowShard& shard, std::int64_t global) {
  const Layout& ranks = b.groups.layout();
  const int me = b.plan.world_rank(), stages = ranks.dense.size("pp");
  float sum = 0.0F;
  for (int rank = 0; rank < ranks.dense.size(); ++rank) {
    const int stage = ranks.dense.coord(rank, "pp");
    const bool end = stage == 0 || stage == stages - 1;
    const bool same_stage = stage == ranks.dense.coord(me, "pp");
    const bool same_part = [&] {
      if (shard.group == ReplicaGroup::stage) return true;
      if (shard.group == ReplicaGroup::edp) {
        return ranks.expert.coord(rank, "ep") == ranks.expert.coord(me, "ep");
      }
      return ranks.dense.coord(rank, "tp") == ranks.dense.coord(me, "tp");
    }();
    if (same_part && (same_stage || (shard.tied && end))) sum += partial(rank, global);
  }
  return sum;
}

std::vector<ParallelConfig> configs(int ranks) {
  std::vector<ParallelConfig> all = {{}};
  if (ranks >= 2) all.insert(all.end(), {{.tp = 2}, {.ep = 2}, {.pp = 2}});
  if (ranks >= 4) all.insert(all.end(), {{.tp = 2, .ep = 4}, {.tp = 2, .pp = 2, .ep = 2}});
  for (std::size_t i = all.size(); i-- > 0;) {
    all.push_back(all[i]);
    all.back().zero = false;
  }
  return all;
}

TEST(GradientReducer, EveryHeldElementIsTheSumOverItsReplicas) {
  const Communicator world = Communicator::world();
  for (const ParallelConfig& config : configs(world.size())) {
    for (const DType wire : {DType::f32, DType::bf16}) {
      Bench b{world, {config, {.wire = wire, .bucket_elements = kSmallBucket}}};
      for (const RowShard& shard : b.plan.shards()) {
        b.for_each(shard, [&](const auto& spec, std::int64_t local, std::int64_t at) {
          b.gradient(spec, at) = partial(world.rank(), b.index(spec, local));
        });
      }
      b.reducer.begin_step();
      b.reducer.finish(b.exec);
      for (const RowShard& shard : b.plan.shards()) {
        const std::int64_t first = shard.first_element(), end = first + shard.held_elements();
        b.for_each(shard, [&](const auto& spec, std::int64_t local, std::int64_t at) {
          if (local < first || local >= end) return;
          ASSERT_EQ(b.gradient(spec, at), total(b, shard, b.index(spec, local)))
              << spec.name << " " << local << " on " << b.groups.layout().dense.describe();
        });
      }
    }
  }
}

TEST(GradientReducer, GathersTheRowsThatOthersUpdated) {
  const Communicator world = Communicator::world();
  for (const ParallelConfig& config : configs(world.size())) {
    if (!config.zero) continue;
    Bench b{world, {.config = config}};
    const auto value = [&](const nn::ParameterSpec& spec, std::int64_t at) -> float& {
      return (spec.keep_f32 ? b.store.f32_values() : b.store.elem_values()).data<float>()[at];
    };
    for (const RowShard& shard : b.plan.shards()) {
      const std::int64_t first = shard.first_element(), end = first + shard.held_elements();
      b.for_each(shard, [&](const auto& spec, std::int64_t local, std::int64_t at) {
        const bool held = local >= first && local < end;
        value(spec, at) = held ? static_cast<float>(b.index(spec, local)) : -1.0F;
      });
    }
    b.reducer.gather_weights(b.exec);
    for (const RowShard& shard : b.plan.shards()) {
      b.for_each(shard, [&](const auto& spec, std::int64_t local, std::int64_t at) {
        ASSERT_EQ(value(spec, at), static_cast<float>(b.index(spec, local))) << spec.name;
      });
    }
  }
}

TEST(GradientReducer, TheJournalCountsWhatTheFormulaSays) {
  const Communicator world = Communicator::world();
  const auto counted = [&](comm::Operation op) { return world.journal()->traffic(op).bytes; };
  for (const ParallelConfig& config : configs(world.size())) {
    for (const DType wire : {DType::f32, DType::bf16}) {
      const BenchOptions bench{
          config, {.wire = wire, .bucket_elements = kSmallBucket}, DType::bf16};
      Bench b{world, bench};
      const std::int64_t scatter = counted(comm::Operation::reduce_scatter);
      const std::int64_t gather = counted(comm::Operation::all_gather);
      const std::int64_t reduce = counted(comm::Operation::all_reduce);
      b.reducer.begin_step();
      b.reducer.finish(b.exec);
      b.reducer.gather_weights(b.exec);
      const ReduceTraffic want = reduce_traffic(b.plan, bench.options, DType::bf16);
      EXPECT_EQ(counted(comm::Operation::reduce_scatter) - scatter, want.reduce_scatter);
      EXPECT_EQ(counted(comm::Operation::all_gather) - gather, want.all_gather);
      EXPECT_EQ(counted(comm::Operation::all_reduce) - reduce, want.all_reduce);
      EXPECT_EQ(want.sent > 0.0, world.size() > 1);
    }
  }
}

TEST(GradientReducer, ReducesABucketWhenItsTensorsAreFinal) {
  const Communicator world = Communicator::world();
  Bench b{world, {.options = {.bucket_elements = kSmallBucket}}};
  const auto calls = [&] {
    return world.journal()->traffic(comm::Operation::reduce_scatter).calls;
  };
  const auto buckets = static_cast<std::int64_t>(b.reducer.buckets().size());
  const std::int64_t before = calls();
  b.reducer.begin_step();
  EXPECT_EQ(calls(), before);
  for (int tensor = b.layout.parameters().back().tensor; tensor >= 0; --tensor) {
    std::int64_t final = 0;
    b.reducer.after_gradients(b.exec, {.first = tensor, .last = tensor + 1});
    for (const Bucket& bucket : b.reducer.buckets()) final += bucket.first_tensor >= tensor ? 1 : 0;
    EXPECT_EQ(calls() - before, final);
  }
  EXPECT_EQ(calls() - before, buckets);
  b.reducer.finish(b.exec);
  EXPECT_EQ(calls() - before, buckets);
}

TEST(GradientReducer, BucketsAreBoundedAndStartWithTheLastTensor) {
  const Layout ranks = make_layout({.tp = 2, .ep = 2}, 8);
  const nn::ParameterLayout layout = test::sharded_layout(ranks, 5);
  const ShardPlan plan{layout, ranks, 5, true};
  int previous = layout.parameters().back().tensor;
  for (const Bucket& bucket : make_buckets(plan, kSmallBucket)) {
    EXPECT_LE(bucket.first_tensor, previous);
    previous = bucket.first_tensor;
    EXPECT_TRUE(bucket.elements() <= kSmallBucket || bucket.parts.size() == 1U);
  }
}

TEST(GradientReducer, TotalsAreSummedOverAllRanks) {
  const Communicator world = Communicator::world();
  const Bench b{world, {.config = {.pp = world.size()}}};
  const Tensor x{DeviceKind::cpu, {3}, DType::f32};
  for (int i = 0; i < 3; ++i) x.view().data<float>()[i] = static_cast<float>(world.rank() + i);
  b.reducer.sum_totals(b.exec, x);
  const int n = world.size();
  EXPECT_EQ(x.view().data<float>()[2], static_cast<float>(n * (n - 1) / 2 + 2 * n));
}

}  // namespace
}  // namespace shoal::parallel
