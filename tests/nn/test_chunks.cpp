// Several model chunks on one rank share parameters, state and a tied table.
#include <gtest/gtest.h>

#include "harness.hpp"

namespace shoal::nn::test {
namespace {

constexpr Scales kScales{.loss = 0.01F, .aux = 0.05F, .z = 0.002F, .budget = 0.1F, .step_seed = 3};

/// The three layers of the small model as three chunks of one rank.
struct Chunks {
  Chunks(Exec& e, const ModelConfig& config)
      : exec{e},
        layout{make_layout(config, ranges, {})},
        store{e, layout.parameters, DType::f32, true},
        state{make_model_state(e, config, ranges)},
        dispatcher{config.num_experts} {
    for (const StageLayout& stage : layout.stages) {
      models.emplace_back(ModelParts{.config = config,
                                     .compute = compute,
                                     .layout = stage,
                                     .store = store,
                                     .state = state,
                                     .groups = {.tensor = &group, .dispatcher = &dispatcher}});
    }
    initialise(e, store, 1);
  }

  void run(const Pass& pass, ops::Accumulate accumulate) {
    std::vector<MicroBatchSaved> saved;
    TensorView x_TD;
    for (std::size_t i = 0; i < models.size(); ++i) {
      saved.push_back(models[i].make_saved());
      saved[i].input_TD = x_TD;
      models[i].forward(exec, pass, saved[i], exec.arena().saved(static_cast<int>(i)));
      x_TD = saved[i].output_TD;
    }
    ConstTensorView dy_TD;
    std::vector<Tensor> borders;
    for (std::size_t i = models.size(); i-- > 0;) {
      const Tensor& border = borders.emplace_back(DeviceKind::cpu, x_TD.shape(), DType::f32);
      const Store slot = exec.arena().saved(static_cast<int>(i));
      const TensorView dx_TD = i == 0 ? TensorView{} : TensorView{border};
      models[i].backward_input(exec, pass, {.dx_TD = dx_TD, .dy_TD = dy_TD}, saved[i], slot,
                               accumulate);
      models[i].backward_weight(exec, pass, saved[i], accumulate);
      dy_TD = dx_TD;
    }
    for (int i = 0; i < 3; ++i) exec.arena().free_saved(i);
  }

  static inline const std::vector<StageRange> ranges = {
      {.first_layer = 0, .last_layer = 1, .embedding = true, .head = false},
      {.first_layer = 1, .last_layer = 2, .embedding = false, .head = false},
      {.first_layer = 2, .last_layer = 3, .embedding = false, .head = true}};
  Exec& exec;
  ComputeConfig compute;
  RankLayout layout;
  ParameterStore store;
  ModelState state;
  LocalShardGroup group;
  LocalDispatcher dispatcher;
  std::vector<Model> models;
};

class ChunksOf : public ::testing::TestWithParam<bool> {};

TEST_P(ChunksOf, ARankGiveTheBitsOfTheWholeModel) {
  ModelConfig config = small_config();
  config.tie_word_embeddings = GetParam();
  config.router_bias_update_rate = 0.25;
  constexpr std::int64_t kRoom = std::int64_t{64} << 20;
  Exec exec{DeviceKind::cpu,
            ArenaPlan{.persistent = kRoom, .saved = {kRoom, kRoom, kRoom}, .scratch = kRoom}};
  Harness whole_model{exec, {.config = config}};
  Chunks chunks{exec, config};
  const DeviceBatch first{exec, random_batch(2, 32, 37, {7})},
      second{exec, random_batch(3, 16, 37)};
  const DeviceScalars scalars{exec, kScales};
  MicroBatchSaved saved = whole_model.model.make_saved();
  whole_model.model.begin_step(exec);
  chunks.models.front().begin_step(exec);
  auto accumulate = ops::Accumulate::overwrite;
  for (const DeviceBatch* batch : {&first, &second}) {
    const Pass pass{.batch = batch->view(), .scalars = scalars.view()};
    whole_model.model.train_micro_batch(exec, pass, saved, 0, accumulate);
    chunks.run(pass, accumulate);
    accumulate = ops::Accumulate::add;
  }
  EXPECT_TRUE(all_equal(download_floats(exec, chunks.state.totals),
                        download_floats(exec, whole_model.model.state().totals)));
  const std::vector<float> flat = download_floats(exec, chunks.store.gradients());
  for (const Parameter& p : chunks.layout.parameters.parameters()) {
    const std::vector<float> expected = whole_model.gradient(p.spec.name);
    const std::int64_t base = chunks.layout.parameters.gradient_base(p.spec.keep_f32);
    for (std::size_t k = 0; k < expected.size(); ++k) {
      const auto i = static_cast<std::int64_t>(k);
      const std::int64_t at =
          base + p.storage.offset + i / p.storage.inner * p.storage.stride + i % p.storage.inner;
      ASSERT_EQ(flat[static_cast<std::size_t>(at)], expected[k]) << p.spec.name;
    }
  }
  for (const Model& model : chunks.models) model.update_router_bias(exec, {});
  whole_model.model.update_router_bias(exec, {});
  EXPECT_TRUE(all_equal(download_floats(exec, chunks.state.bias_block),
                        download_floats(exec, whole_model.state.bias_block)))
      << "each layer's bias moves once";
}
INSTANTIATE_TEST_SUITE_P(Tables, ChunksOf, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "tied" : "untied"; });

}  // namespace
}  // namespace shoal::nn::test
