#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "expert_exchange.hpp"
#include "shoal/parallel/process_groups.hpp"

namespace shoal::parallel::test {
namespace {

/// Element type, and whether host memory takes the path of device memory.
struct Variant {
  DType elem;
  bool staged;
};

/// All ranks of the world share the experts.
class ExpertDispatcherTest : public ::testing::TestWithParam<Variant> {
 protected:
  [[nodiscard]] ExpertDispatcher make(std::int64_t experts, double factor = 0.0,
                                      const TensorView& overflow = {},
                                      double capacity_factor = 0.0) const {
    return ExpertDispatcher{{.experts = experts,
                             .ranks = world_.size(),
                             .buffer_factor = factor,
                             .capacity_factor = capacity_factor,
                             .overflow = overflow,
                             .group = &groups_.ep(),
                             .collectives = collectives_.get()},
                            DeviceKind::cpu};
  }
  [[nodiscard]] Inputs inputs(const Routing& r) const {
    return {exec_, r, GetParam().elem, world_.size(), world_.rank() * r.T, r.T};
  }
  [[nodiscard]] std::int64_t first_expert(const Routing& r) const {
    return r.E / world_.size() * world_.rank();
  }
  /// In half precision each of the up to K partial sums of a token is rounded once more.
  [[nodiscard]] Tolerance close_to_one_rank(const Routing& r) const {
    Tolerance close = tolerance(GetParam().elem, r.K);
    if (GetParam().elem == DType::bf16) {
      const auto partials = static_cast<double>(std::min<std::int64_t>(r.K, world_.size()));
      close.relative += partials * 0x1p-8;
      close.global += partials * 0x1p-9;
    }
    return close;
  }
  /// Outputs of this rank as one rank with everything has them.
  [[nodiscard]] Outputs expected(const Routing& r) const {
    const Outputs all = one_rank(exec_, r, GetParam().elem, world_.size());
    const std::int64_t here = r.E / world_.size(), first = here * world_.rank();
    Outputs mine;
    for (std::int64_t e = first; e <= first + here; ++e) {
      mine.offset.push_back(all.offset[e] - all.offset[first]);
    }
    const auto cut = [](const std::vector<float>& from, std::int64_t begin, std::int64_t count) {
      return std::vector<float>{from.begin() + begin, from.begin() + begin + count};
    };
    const auto row = [](float offset) { return static_cast<std::int64_t>(offset); };
    const std::int64_t before = r.T * world_.rank();
    mine.rows = cut(all.rows, row(all.offset[first]) * r.D, row(mine.offset.back()) * r.D);
    mine.y = cut(all.y, before * r.D, r.T * r.D);
    mine.dx = cut(all.dx, before * r.D, r.T * r.D);
    mine.dweight = cut(all.dweight, before * r.K, r.T * r.K);
    return mine;
  }
  void expect_like_one_rank(const Outputs& got, const Routing& r) const {
    const Outputs want = expected(r);
    const Tolerance close = close_to_one_rank(r);
    EXPECT_EQ(got.offset, want.offset);
    EXPECT_TRUE(all_equal(got.rows, want.rows));
    EXPECT_TRUE(all_near(got.y, want.y, close));
    EXPECT_TRUE(all_near(got.dx, want.dx, close));
    EXPECT_TRUE(all_equal(got.dweight, want.dweight));
  }
  /// Of a routing with one copy a token: its results are right, or it contributed nothing.
  void expect_whole_or_cut_off(const Outputs& got, const Inputs& in, const Routing& r) const {
    const Outputs want = expected(r);
    const auto add = download_floats(exec_, in.mine(in.add));
    const Tolerance close = close_to_one_rank(r);
    const auto part = [](const std::vector<float>& all, std::int64_t t, std::int64_t width) {
      return std::vector<float>{all.begin() + t * width, all.begin() + (t + 1) * width};
    };
    int cut_off = 0;
    for (std::int64_t t = 0; t < r.T; ++t) {
      const auto dweight = part(got.dweight, t, r.K);
      const bool cut = std::count(dweight.begin(), dweight.end(), 0.0F) == r.K;
      cut_off += cut ? 1 : 0;
      EXPECT_TRUE(cut || all_equal(dweight, part(want.dweight, t, r.K)));
      EXPECT_TRUE(all_near(part(got.y, t, r.D), part(cut ? add : want.y, t, r.D), close));
      EXPECT_TRUE(all_near(part(got.dx, t, r.D), part(cut ? add : want.dx, t, r.D), close));
    }
    EXPECT_GT(cut_off, 0);
    EXPECT_LT(cut_off, r.T);
  }
  [[nodiscard]] std::int64_t bytes_sent() const {
    return world_.journal()->traffic(comm::Operation::all_to_all_v).bytes;
  }

  const Communicator world_ = Communicator::world();
  const ProcessGroups groups_{world_, {.ep = world_.size()}};
  const Exec exec_ = make_exec(DeviceKind::cpu, 16);
  const std::unique_ptr<comm::TensorCollectives> collectives_ = comm::make_host_collectives(
      groups_.ep(), DeviceKind::cpu, {.staging_bytes = 1024, .always_stage = GetParam().staged});
};

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
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) layer->combine_backward();
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
  ExpertDispatcher planned{{.experts = r.E, .ranks = world_.size(), .buffer_factor = 1.5},
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
    d.combine_backward(
        exec,
        {.drows_RD = rows, .dweight_TK = weight, .dy_TD = y, .rows_RD = rows, .weight_TK = weight},
        plan);
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

TEST(ExchangeVolume, BuffersHoldTheirFactorWithinTheWorstCase) {
  const ExchangeShape s{.tokens = 100, .slots = 4, .experts = 16, .ranks = 8};  // 2 experts a rank
  EXPECT_EQ(expert_rows(s, 0.0), 8 * 100 * 2);
  EXPECT_EQ(expert_rows(s, 1.0), 400);
  EXPECT_EQ(expert_rows(s, 1.001), 401) << "rounded up";
  EXPECT_EQ(expert_rows(s, 1e9), 1600);
  EXPECT_EQ(expert_rows(s, 1e-9), 16) << "a token of every rank";
  EXPECT_EQ(arriving_copies(s, 0.0), 800);
  EXPECT_EQ(arriving_copies(s, 1.0), 400);
  EXPECT_EQ(leaving_copies(s), 400);
  EXPECT_EQ(most_copies(s, 0.0).received, 700);
  EXPECT_EQ(expert_rows({.tokens = 0, .slots = 4, .experts = 16, .ranks = 8}, 1.0), 0);
}

}  // namespace
}  // namespace shoal::parallel::test
