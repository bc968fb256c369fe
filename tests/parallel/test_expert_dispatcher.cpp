#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "expert_dispatcher_fixture.hpp"

namespace shoal::parallel::test {
namespace {

TEST_P(ExpertDispatcherTest, EqualsOneRankWithAllTokens) {
  for (const Routing& r : routings(world_.size())) {
    SCOPED_TRACE(r.name);
    ExpertDispatcher dispatcher = make(r.E);
    const Inputs in = inputs(r);
    Layer layer{exec_, dispatcher, in, first_expert(r)};
    layer.run();
    expect_like_one_rank(layer.outputs(), r);
  }
}

TEST_P(ExpertDispatcherTest, PlansOfManyLayersLiveAtOnce) {
  const std::vector<Routing> rs = {spread(13, 2, 8), all_to_one(13, 8), spread(5, 2, 8)};
  ExpertDispatcher dispatcher = make(8);
  std::vector<Inputs> ins;
  for (const Routing& r : rs) ins.push_back(inputs(r));
  std::vector<Layer> layers;
  for (std::size_t i = 0; i < rs.size(); ++i) {
    layers.emplace_back(exec_, dispatcher, ins[i], first_expert(rs[i]));
    layers.back().plan();
  }
  for (Layer& layer : layers) layer.dispatch();
  for (Layer& layer : layers) layer.combine();
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    layer->combine_backward();
    layer->weight_backward();
  }
  layers.front().plan();  // as recomputation does
  layers.front().dispatch();
  for (Layer& layer : layers) layer.dispatch_backward();
  for (std::size_t i = 0; i < rs.size(); ++i) {
    expect_like_one_rank(layers[i].outputs(), rs[i]);
  }
}

TEST_P(ExpertDispatcherTest, TheJournalCountsWhatTheFormulaSays) {
  for (const Routing& r : routings(world_.size())) {
    SCOPED_TRACE(r.name);
    ExpertDispatcher dispatcher = make(r.E);
    const Inputs in = inputs(r);
    Layer layer{exec_, dispatcher, in, first_expert(r)};
    const auto gathered = world_.journal()->traffic(comm::Operation::all_gather);
    const auto bytes_of = [&](const auto& call) {
      const std::int64_t before = bytes_sent();
      call();
      return bytes_sent() - before;
    };
    const std::int64_t choices = bytes_of([&] { layer.plan(); });
    const nn::ExchangeCounts& counts = *layer.plan_views().exchange.counts;
    const auto me = static_cast<std::size_t>(world_.rank());
    const CopyCounts copies{.sent = counts.sent - counts.send[me],
                            .received = counts.received - counts.recv[me]};
    const ExchangeShape shape{.tokens = r.T, .slots = r.K, .experts = r.E, .ranks = world_.size()};
    const ExchangeVolume volume = exchange_volume(shape, copies, r.D, GetParam().elem);
    EXPECT_EQ(choices, volume.choices);
    EXPECT_EQ(world_.journal()->traffic(comm::Operation::all_gather).bytes - gathered.bytes,
              volume.counts);
    EXPECT_EQ(bytes_of([&] { layer.dispatch(); }), volume.dispatch);
    EXPECT_EQ(bytes_of([&] { layer.combine(); }), volume.combine);
    EXPECT_EQ(bytes_of([&] { layer.combine_backward(); }), volume.combine_backward);
    EXPECT_EQ(bytes_of([&] { layer.weight_backward(); }), volume.weight_backward);
    EXPECT_EQ(bytes_of([&] { layer.dispatch_backward(); }), volume.dispatch_backward);
    const CopyCounts bound = most_copies(shape, 0.0);
    EXPECT_LE(copies.sent, bound.sent);
    EXPECT_LE(copies.received, bound.received);
  }
}

TEST_P(ExpertDispatcherTest, ATokenTravelsOnceToARank) {
  const Routing r = all_to_rank_0(9, 3 * world_.size(), world_.size());  // K = 3 experts there
  ExpertDispatcher dispatcher = make(r.E);
  const Inputs in = inputs(r);
  Layer layer{exec_, dispatcher, in, first_expert(r)};
  layer.plan();
  const nn::ExchangeCounts& counts = *layer.plan_views().exchange.counts;
  EXPECT_EQ(counts.sent, 9);
  EXPECT_EQ(counts.received, world_.rank() == 0 ? 9 * world_.size() : 0);
}

TEST_P(ExpertDispatcherTest, OverflowIsSeenByAllRanksAndStaysInside) {
  const Tensor overflow = from_values(exec_, {1}, DType::f32, {0.0F});
  const Routing r = all_to_rank_0(9, 3 * world_.size(), world_.size());
  ExpertDispatcher dispatcher = make(r.E, 1.0, overflow);
  const Inputs in = inputs(r);
  Layer layer{exec_, dispatcher, in, first_expert(r)};
  layer.run();
  const auto factor = static_cast<float>(world_.size());
  EXPECT_EQ(download_floats(exec_, overflow).front(), world_.size() == 1 ? 0.0F : factor);
  const Outputs out = layer.outputs();
  EXPECT_LE(out.offset.back(), static_cast<float>(dispatcher.max_rows(r.T, r.K)));
  for (const auto* values : {&out.rows, &out.y, &out.dx, &out.dweight}) {
    EXPECT_TRUE(
        std::all_of(values->begin(), values->end(), [](float v) { return std::isfinite(v); }));
  }
  if (world_.size() == 1) return;
  expect_whole_or_cut_off(out, in, r);

  upload_values(exec_, overflow, std::vector<float>{0.0F});
  ExpertDispatcher enough = make(r.E, factor, overflow);
  Layer whole{exec_, enough, in, first_expert(r)};
  whole.run();
  EXPECT_EQ(download_floats(exec_, overflow).front(), 0.0F);
  expect_like_one_rank(whole.outputs(), r);
}

TEST_P(ExpertDispatcherTest, ACapacityDropsWhatOneRankWouldDropOfItsTokens) {
  const Routing r = spread(29, 3, 8);
  ExpertDispatcher dispatcher = make(r.E, 0.0, {}, 0.8);
  nn::LocalDispatcher local{r.E, 0.8};
  const Inputs in = inputs(r);
  Layer layer{exec_, dispatcher, in, first_expert(r)}, alone{exec_, local, in, 0};
  layer.run();
  alone.run();
  const Outputs got = layer.outputs(), want = alone.outputs();
  EXPECT_LT(want.offset.back(), static_cast<float>(r.T * r.K)) << "nothing was dropped";
  EXPECT_EQ(download_floats(exec_, layer.plan_views().count_E),
            download_floats(exec_, alone.plan_views().count_E));
  const Tolerance close = close_to_one_rank(r);
  EXPECT_TRUE(all_near(got.y, want.y, close));
  EXPECT_TRUE(all_near(got.dx, want.dx, close));
  EXPECT_TRUE(all_equal(got.dweight, want.dweight));
}

TEST_P(ExpertDispatcherTest, OverflowWithoutAFlagIsAnError) {
  if (world_.size() == 1) return;
  const Routing r = all_to_one(8, 4);
  ExpertDispatcher dispatcher = make(r.E, 1.0);
  const Inputs in = inputs(r);
  Layer layer{exec_, dispatcher, in, first_expert(r)};
  EXPECT_THROW(layer.plan(), Error);
}

TEST_P(ExpertDispatcherTest, TheHostWaitsOnceForEachPlan) {
  const Routing r = spread(13, 2, 8);
  ExpertDispatcher dispatcher = make(r.E);
  const Inputs in = inputs(r);
  Layer layer{exec_, dispatcher, in, first_expert(r)};
  layer.run();
  layer.plan();
  EXPECT_EQ(world_.journal()->waits().totals().at("expert counts").count, 2);
}

TEST_P(ExpertDispatcherTest, OverlappingWorkRunsOnceAndMayWriteWhatIsAdded) {
  const Routing r = spread(13, 2, 8);
  ExpertDispatcher dispatcher = make(r.E);
  const Inputs in = inputs(r);
  Layer layer{exec_, dispatcher, in, first_expert(r)};
  int calls = 0;
  layer.plan();
  layer.dispatch([&] { ++calls; });
  EXPECT_EQ(calls, 1);
  layer.combine();
  layer.combine_backward();
  layer.weight_backward();
  const TensorView add = in.mine(in.add);
  const auto values = download_floats(exec_, add);
  zero(exec_, add);
  layer.dispatch_backward([&] {
    ++calls;
    upload_values(exec_, add, std::span<const float>{values});
  });
  EXPECT_EQ(calls, 2);
  expect_like_one_rank(layer.outputs(), r);
}

TEST_P(ExpertDispatcherTest, ADryExecCountsTheScratchOfTheRealOne) {
  const Routing r = spread(13, 3, 8);
  const Exec real = make_exec(DeviceKind::cpu, 4), dry = Exec::dry(DeviceKind::cpu);
  ExpertDispatcher dispatcher = make(r.E, 1.5);
  const Communicator paper = Communicator::on_paper(world_.rank(), world_.size());
  const auto nobody = comm::make_host_collectives(paper, DeviceKind::cpu);
  ExpertDispatcher planned{
      {.experts = r.E, .buffer_factor = 1.5, .group = paper, .collectives = *nobody},
      DeviceKind::cpu};
  const auto scratch_of = [&](const Exec& exec, ExpertDispatcher& d) {
    const auto view = [&](const Shape& shape, DType dtype) {
      return persistent(exec, shape, dtype, MemoryKind::batch);
    };
    const TensorView index = view({r.T, r.K}, DType::i32), weight = view({r.T, r.K}, DType::f32);
    const TensorView x = view({r.T, r.D}, GetParam().elem), y = view({r.T, r.D}, GetParam().elem);
    const TensorView rows = view({d.max_rows(r.T, r.K), r.D}, GetParam().elem);
    if (!exec.is_dry()) upload_values(exec, index, Inputs::indices(r, 1));
    const nn::DispatchPlan plan = d.reserve(exec.arena().saved(0), r.T, r.K);
    d.plan(exec, plan, {.index_TK = index, .weight_TK = weight});
    d.dispatch(exec, {.rows_RD = rows, .x_TD = x}, plan);
    d.combine(exec, {.y_TD = y, .rows_RD = rows, .weight_TK = weight, .add_TD = {}}, plan);
    const TensorView weight_R =
        persistent(exec, {d.max_rows(r.T, r.K)}, DType::f32, MemoryKind::batch);
    d.combine_backward(
        exec, {.drows_RD = rows, .weight_R = weight_R, .dy_TD = y, .weight_TK = weight}, plan);
    d.weight_backward(exec, {.dweight_TK = weight, .dweight_R = weight_R}, plan);
    d.dispatch_backward(exec, {.dx_TD = y, .drows_RD = rows, .add_TD = {}}, plan);
    const ArenaPlan memory = exec.arena().plan();
    return std::pair{memory.scratch, memory.saved.front()};
  };
  const Tensor overflow = from_values(exec_, {1}, DType::f32, {0.0F});
  ExpertDispatcher flagged = make(r.E, 1.5, overflow);
  EXPECT_EQ(scratch_of(dry, planned), scratch_of(real, flagged));
  const Inputs in = inputs(r);
  const nn::DispatchPlan plan = planned.reserve(real.scratch(), r.T, r.K);
  EXPECT_THROW(
      planned.plan(real, plan, {.index_TK = in.mine(in.index), .weight_TK = in.mine(in.weight)}),
      Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, ExpertDispatcherTest,
                         ::testing::Values(Variant{DType::f32, false}, Variant{DType::bf16, false},
                                           Variant{DType::f32, true}),
                         [](const auto& info) {
                           return std::string{name(info.param.elem)} +
                                  (info.param.staged ? "_staged" : "_direct");
                         });

}  // namespace
}  // namespace shoal::parallel::test
