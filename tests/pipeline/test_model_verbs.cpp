// A small model cut into chunks, under every schedule, against the whole model on one rank.
#include "shoal/pipeline/model_verbs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>

#include "nn/harness.hpp"
#include "shoal/pipeline/executor.hpp"
#include "shoal/pipeline/stage_split.hpp"

namespace shoal::pipeline {
namespace {

using nn::test::DeviceBatch;
using nn::test::DeviceScalars;
using nn::test::Harness;
using nn::test::HostBatch;

constexpr nn::test::Scales kScales{
    .loss = 0.01F, .aux = 0.05F, .z = 0.002F, .budget = 0.1F, .step_seed = 3};
constexpr std::int64_t kSequence = 16;

struct Case {
  ScheduleShape shape;
  nn::ModelConfig config;
  nn::ComputeConfig compute = {};
  DType elem = DType::f32;
};

/// Experts, dropout, dynamic heads; a layer for each of up to eight chunks.
nn::ModelConfig deep_config() {
  nn::ModelConfig c = nn::test::small_config();
  c.num_hidden_layers = 9;
  c.num_key_value_heads = 4;
  c.embedding_dropout = 0.1;
  c.attention_dropout = 0.2;
  c.expert_dropout = 0.3;
  c.dynamic_heads = {.enabled = true, .gate_block = 8, .head_budget = 0.3, .head_budget_coef = 1.0};
  return c;
}

std::vector<HostBatch> micro_batches(int count) {
  const HostBatch all = nn::test::random_batch(count, kSequence, 37, {5});
  std::vector<HostBatch> parts;
  for (int i = 0; i < count; ++i) parts.push_back(nn::test::sequences_of(all, i, 1));
  return parts;
}

/// One rank's chunks and their executor on one Exec.
struct Pipeline {
  Pipeline(Exec& exec, const Case& c, const Communicator& group) {
    const std::vector<std::int64_t> layers =
        chunk_layers({.config = c.config, .stages = {}, .sequence = kSequence}, c.shape);
    for (const nn::StageRange& range : rank_ranges(layers, c.shape, group.rank())) {
      chunks.emplace_back(exec, Harness::Options{c.config, c.compute, c.elem}, range);
    }
    std::vector<const nn::Model*> models;
    for (const Harness& chunk : chunks) models.push_back(&chunk.model);
    const int slots = assign_slots(make_schedule(c.shape, group.rank()), c.shape).count;
    verbs.emplace(ModelVerbs::Parts{models, slots, kSequence, c.shape.micro_batches});
    executor.emplace(exec, ExecutorParts{.shape = c.shape, .verbs = *verbs, .group = group});
  }
  /// A step over these micro-batches.
  void run(Exec& exec, const std::vector<HostBatch>& batches) {
    std::deque<DeviceBatch> device;
    for (const HostBatch& b : batches) device.emplace_back(exec, b);
    const DeviceScalars scalars{exec, kScales};
    for (const Harness& chunk : chunks) chunk.model.begin_step(exec);
    verbs->begin_step(scalars.view(),
                      [&](int i) { return device[static_cast<std::size_t>(i)].view(); });
    executor->run(exec);
  }
  [[nodiscard]] std::vector<float> gradient(const std::string& name) const {
    for (const Harness& chunk : chunks) {
      for (const nn::Parameter& p : chunk.layout.parameters.parameters()) {
        if (p.spec.name == name) return chunk.gradient(name);
      }
    }
    return {};
  }
  [[nodiscard]] float loss_sum() const {
    float sum = 0.0F;
    for (const Harness& chunk : chunks) sum += chunk.loss_sum();
    return sum;
  }

  std::deque<Harness> chunks;
  std::optional<ModelVerbs> verbs;
  std::optional<Executor> executor;
};

/// The whole model, one micro-batch after the other.
struct Whole {
  explicit Whole(const Case& c) : model{exec, Harness::Options{c.config, c.compute, c.elem}} {
    nn::MicroBatchSaved saved = model.model.make_saved();
    const DeviceScalars scalars{exec, kScales};
    model.model.begin_step(exec);
    for (int i = 0; i < c.shape.micro_batches; ++i) {
      const DeviceBatch batch{exec, micro_batches(c.shape.micro_batches)[std::size_t(i)]};
      model.model.train_micro_batch(exec, {.batch = batch.view(), .scalars = scalars.view()}, saved,
                                    0, i == 0 ? ops::Accumulate::overwrite : ops::Accumulate::add);
    }
  }
  Exec exec = test::make_exec(DeviceKind::cpu, 64);
  Harness model;
};

/// Memory of the pipeline step, counted on paper.
ArenaPlan planned(const Case& c, int rank) {
  Exec dry = Exec::dry(DeviceKind::cpu);
  const Communicator paper = Communicator::on_paper(rank, c.shape.stages);
  Pipeline pipeline{dry, c, paper};
  pipeline.run(dry, micro_batches(c.shape.micro_batches));
  return dry.arena().plan();
}

std::vector<ScheduleShape> all_shapes(int stages, int micro_batches) {
  return {{ScheduleKind::gpipe, stages, micro_batches, 1},
          {ScheduleKind::one_f_one_b, stages, micro_batches, 1},
          {ScheduleKind::interleaved, stages, micro_batches, 2},
          {ScheduleKind::zb_h1, stages, micro_batches, 1},
          {ScheduleKind::zbv, stages, micro_batches, 2}};
}

/// Every schedule and recompute mode runs backward of a chunk in the order of micro-batches, and
/// splitting backward keeps the bits: nothing may differ from one rank.
void expect_equal_to_one_rank(const Case& c, const std::string& what) {
  const Communicator world = Communicator::world();
  const Whole whole{c};
  const ArenaPlan plan = planned(c, world.rank());
  Exec exec{DeviceKind::cpu, plan};
  Pipeline pipeline{exec, c, world};
  const std::vector<HostBatch> batches = micro_batches(c.shape.micro_batches);
  pipeline.run(exec, batches);
  pipeline.run(exec, batches);  // the second step overwrites the first one's gradients
  for (const Harness& chunk : pipeline.chunks) {
    for (const nn::Parameter& p : chunk.layout.parameters.parameters()) {
      const std::string& name = p.spec.name;
      EXPECT_TRUE(test::all_equal(chunk.gradient(name), whole.model.gradient(name)))
          << what << ": " << name;
    }
  }
  const float loss = world.all_reduce_value(pipeline.loss_sum(), comm::ReduceOp::sum);
  EXPECT_EQ(loss, whole.model.loss_sum()) << what;
  const ArenaPlan used = exec.arena().plan();
  EXPECT_EQ(used.saved, plan.saved) << what;
  EXPECT_EQ(used.persistent, plan.persistent) << what;
  EXPECT_EQ(used.scratch, plan.scratch) << what;
}

TEST(ModelVerbs, GiveTheBitsOfOneRankInEverySchedule) {
  const int p = Communicator::world().size();
  for (const int m : {1, 5}) {
    for (const ScheduleShape& shape : all_shapes(p, m)) {
      expect_equal_to_one_rank({.shape = shape, .config = deep_config()},
                               std::string{name(shape.kind)} + " m=" + std::to_string(m));
    }
  }
}

TEST(ModelVerbs, GiveTheBitsOfOneRankWithRecompute) {
  const int p = Communicator::world().size();
  for (const char* mode : {"selective", "full"}) {
    for (const ScheduleKind kind : {ScheduleKind::one_f_one_b, ScheduleKind::zb_h1}) {
      for (const DType elem : {DType::f32, DType::bf16}) {
        expect_equal_to_one_rank(
            {.shape = {kind, p, 3, 1},
             .config = deep_config(),
             .compute = {.recompute_attention = mode, .recompute_mlp = mode},
             .elem = elem},
            std::string{name(kind)} + " recompute=" + mode + " " + std::string{name(elem)});
      }
    }
    expect_equal_to_one_rank({.shape = {ScheduleKind::zbv, p, 3, 2},
                              .config = deep_config(),
                              .compute = {.recompute_attention = mode, .recompute_mlp = mode}},
                             std::string{"zbv recompute="} + mode);
  }
}

/// Head and embedding each leave their part of the table's gradient; the sum is that of one rank up
/// to the order of additions.
TEST(ModelVerbs, LeavePartialGradientsOfATiedTable) {
  const Communicator world = Communicator::world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  Case c{.shape = {ScheduleKind::zb_h1, world.size(), 4, 1}, .config = deep_config()};
  c.config.tie_word_embeddings = true;
  const Whole whole{c};
  Exec exec{DeviceKind::cpu, planned(c, world.rank())};
  Pipeline pipeline{exec, c, world};
  pipeline.run(exec, micro_batches(c.shape.micro_batches));
  const std::vector<float> expected = whole.model.gradient("embed_tokens");
  std::vector<float> part = pipeline.gradient("embed_tokens");
  const bool end = world.rank() == 0 || world.rank() == world.size() - 1;
  EXPECT_EQ(!part.empty(), end);
  part.resize(expected.size());
  EXPECT_TRUE(!end || nn::test::distance(part, expected) > 0.01);
  world.all_reduce(part, comm::ReduceOp::sum);
  EXPECT_LE(nn::test::distance(part, expected), 1e-6);
}

/// Keeps what the gradients were when they were announced.
class Announcements final : public nn::ParameterWatch {
 public:
  explicit Announcements(const Harness& chunk) : chunk_{&chunk} {
    int count = 0;
    for (const nn::Parameter& p : parameters()) count = std::max(count, p.tensor + 1);
    used.assign(static_cast<std::size_t>(count), 0);
    final.assign(static_cast<std::size_t>(count), 0);
  }
  void before_use(const Exec&, nn::TensorRange tensors) override {
    for (int t = tensors.first; t < tensors.last; ++t) ++used[static_cast<std::size_t>(t)];
  }
  void after_gradients(const Exec&, nn::TensorRange tensors) override {
    for (int t = tensors.first; t < tensors.last; ++t) ++final[static_cast<std::size_t>(t)];
    for (const nn::Parameter& p : parameters()) {
      if (p.tensor < tensors.first || p.tensor >= tensors.last) continue;
      seen[p.spec.name] = chunk_->gradient(p.spec.name);
    }
  }
  [[nodiscard]] const std::vector<nn::Parameter>& parameters() const {
    return chunk_->layout.parameters.parameters();
  }

  std::vector<int> used, final;  ///< for each tensor: how often
  std::map<std::string, std::vector<float>> seen;

 private:
  const Harness* chunk_;
};

/// In every schedule with several micro-batches each tensor is announced once, and its gradient is
/// then that of the whole step.
TEST(ModelVerbs, AnnounceFinalGradientsOnce) {
  const Communicator world = Communicator::world();
  for (const bool tied : {false, true}) {
    for (const ScheduleKind kind :
         {ScheduleKind::gpipe, ScheduleKind::one_f_one_b, ScheduleKind::zb_h1}) {
      Case c{.shape = {kind, world.size(), 3, 1}, .config = deep_config()};
      c.config.tie_word_embeddings = tied;
      Exec exec{DeviceKind::cpu, planned(c, world.rank())};
      Pipeline pipeline{exec, c, world};
      const Harness& chunk = pipeline.chunks.front();
      Announcements watch{chunk};
      pipeline.verbs->set_watch(&watch);
      pipeline.run(exec, micro_batches(c.shape.micro_batches));
      const bool far_head = tied && world.size() > 1 && world.rank() == world.size() - 1;
      for (const nn::Parameter& p : watch.parameters()) {
        const std::string what = std::string{name(kind)} + ": " + p.spec.name;
        const bool tied_apart = far_head && p.spec.name == "embed_tokens";
        const auto tensor = static_cast<std::size_t>(p.tensor);
        EXPECT_EQ(watch.final[tensor], tied_apart ? 0 : 1) << what;
        const bool twice = tied && world.size() == 1 && p.spec.name == "embed_tokens";
        EXPECT_EQ(watch.used[tensor], twice ? 2 : 1) << what;
        if (tied_apart) continue;
        EXPECT_TRUE(test::all_equal(watch.seen.at(p.spec.name), chunk.gradient(p.spec.name)))
            << what;
      }
    }
  }
}

/// Zero-bubble keeps what recompute restores only from backward_input to backward_weight. Only the
/// last stage of ZB-H1, where every live micro-batch waits for its backward_weight, gains nothing.
TEST(ModelVerbs, RecomputeSavesMemoryInZeroBubbleToo) {
  for (const ScheduleShape& shape : all_shapes(4, 8)) {
    for (int rank = 0; rank < 4; ++rank) {
      const Case none{.shape = shape, .config = deep_config()};
      Case full = none;
      full.compute = {.recompute_attention = "full", .recompute_mlp = "full"};
      if (shape.kind == ScheduleKind::zb_h1 && rank == 3) continue;
      EXPECT_LT(planned(full, rank).saved_total(), planned(none, rank).saved_total())
          << name(shape.kind) << " rank " << rank;
    }
  }
}

}  // namespace
}  // namespace shoal::pipeline
