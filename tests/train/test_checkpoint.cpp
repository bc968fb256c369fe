#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "shoal/base/log.hpp"
#include "shoal/nn/model_layout.hpp"
#include "shoal/tensor/tensor.hpp"
#include "shoal/train/model_json.hpp"
#include "shoal/train/plan.hpp"
#include "train/checkpoint_save.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;

/// A finished run with checkpoints of steps 4 and 8.
class Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    log::set_sink([this](log::Level level, std::string_view text) {
      if (level == log::Level::warning) warnings_ += std::string{text} + "\n";
    });
    folder_ =
        test::fresh_folder(world_, ::testing::UnitTest::GetInstance()->current_test_info()->name());
    test::make_corpus(world_, folder_ / "corpus");
    config_ = test::toy_config(folder_);
    ASSERT_EQ(run(config_, world_), ExitCode::finished);
    run_dir_ = config_.training.run_dir;
    digest_ = test::state_digest(run_dir_ / "step-00000008");
    world_.barrier();  // everyone has read before a test damages anything
  }
  void TearDown() override {
    log::set_sink([](log::Level, std::string_view) {});
    world_.barrier();
    if (world_.is_root()) fs::remove_all(folder_);
  }
  /// Does something to the newest checkpoint, then runs again.
  void damage_and_resume(const std::function<void(const fs::path&)>& damage) {
    if (world_.is_root()) damage(run_dir_ / "step-00000008");
    world_.barrier();
    ASSERT_EQ(run(config_, world_), ExitCode::finished);
    EXPECT_EQ(test::state_digest(run_dir_ / "step-00000008"), digest_);
  }
  static void flip_byte(const fs::path& file) {
    std::fstream f{file, std::ios::in | std::ios::out | std::ios::binary};
    const auto middle = static_cast<std::streamoff>(fs::file_size(file) / 2);
    f.seekg(middle);
    const auto byte = static_cast<char>(f.get() ^ 0x10);
    f.seekp(middle);
    f.put(byte);
  }

  Communicator world_ = Communicator::world();
  fs::path folder_, run_dir_;
  RunConfig config_;
  std::string digest_;
  std::string warnings_;
};

TEST_F(Checkpoint, AFlippedByteIsNamedAndThePreviousOneUsed) {
  damage_and_resume([](const fs::path& c) { flip_byte(c / "rank-00000.h5"); });
  if (!world_.is_root()) return;
  EXPECT_NE(warnings_.find("rank-00000.h5: content does not match its hash"), std::string::npos);
  EXPECT_NE(warnings_.find("step-00000004"), std::string::npos);
}

TEST_F(Checkpoint, ATruncatedFileIsNamedAndThePreviousOneUsed) {
  damage_and_resume([](const fs::path& c) { fs::resize_file(c / "rank-00000.h5", 1000); });
  if (world_.is_root()) {
    EXPECT_NE(warnings_.find("1000 bytes, the manifest"), std::string::npos);
  }
}

TEST_F(Checkpoint, AMissingFileIsNamedAndThePreviousOneUsed) {
  damage_and_resume([](const fs::path& c) { fs::remove(c / "rank-00000.h5"); });
  if (world_.is_root()) {
    EXPECT_NE(warnings_.find("but missing"), std::string::npos);
  }
}

TEST_F(Checkpoint, WithoutAManifestItDoesNotExist) {
  damage_and_resume([](const fs::path& c) { fs::remove(c / "manifest.json"); });
}

TEST_F(Checkpoint, LeftOversOfAKilledWriterAreCleared) {
  const fs::path left = run_dir_ / "step-00000012.tmp";
  if (world_.is_root()) {
    fs::create_directories(left);
    std::ofstream{left / "rank-00000.h5"} << "half";
  }
  world_.barrier();
  config_.training.steps = 9;
  ASSERT_EQ(run(config_, world_), ExitCode::finished);
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(Checkpoint, AllDamagedIsAnErrorAndNotAFreshStart) {
  if (world_.is_root()) {
    for (const fs::path& c : list_checkpoints(run_dir_)) flip_byte(c / "index.h5");
  }
  world_.barrier();
  EXPECT_THROW((void)run(config_, world_), InputError);
}

TEST_F(Checkpoint, AnotherModelIsRefusedByTheNameOfTheParameter) {
  config_.model.hidden_size = 24;
  try {
    (void)run(config_, world_);
    FAIL() << "a checkpoint of another model was loaded";
  } catch (const InputError& error) {
    EXPECT_NE(std::string{error.what()}.find("is of another model: "), std::string::npos)
        << error.what();
  }
}

TEST_F(Checkpoint, AnotherOptimizerIsRefused) {
  config_.optim.kind = "adamw";
  EXPECT_THROW((void)run(config_, world_), InputError);
}

TEST_F(Checkpoint, LatestPointsAtTheNewestAndOnlyTheLastOnesAreKept) {
  EXPECT_EQ(fs::read_symlink(run_dir_ / "latest"), "step-00000008");
  config_.training.steps = 16;
  config_.checkpoint.keep_last = 2;
  ASSERT_EQ(run(config_, world_), ExitCode::finished);
  const auto left = list_checkpoints(run_dir_);
  ASSERT_EQ(left.size(), 2U);
  EXPECT_EQ(left[0].filename(), "step-00000016");
  EXPECT_EQ(left[1].filename(), "step-00000012");
}

TEST_F(Checkpoint, RestartFromANamedOneSetsLaterOnesAside) {
  config_.checkpoint.restart = (run_dir_ / "step-00000004").string();
  ASSERT_EQ(run(config_, world_), ExitCode::finished);
  EXPECT_TRUE(fs::exists(run_dir_ / "abandoned-step-00000008" / "manifest.json"));
  EXPECT_EQ(test::state_digest(run_dir_ / "step-00000008"), digest_);
}

/// A file size limit stands for a full disk: writing fails in the middle of a file.
TEST_F(Checkpoint, AFullDiskLeavesTheOldOneWhole) {
  config_.training.steps = 12;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 200000;  // journal and metrics fit, the weights do not
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW((void)run(config_, world_), Error);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  world_.barrier();  // the first rank has cleaned up
  if (world_.is_root()) {
    EXPECT_EQ(test::metrics_of(run_dir_).steps.size(), 12U);  // it failed at the checkpoint
  }
  EXPECT_EQ(find_checkpoint(run_dir_).filename(), "step-00000008");
  EXPECT_EQ(test::state_digest(run_dir_ / "latest"), digest_);
  EXPECT_FALSE(fs::exists(run_dir_ / "step-00000012.tmp"));
}

TEST_F(Checkpoint, WeightsLoadIntoAnyPrecisionAndByRows) {
  const WeightReader reader{run_dir_ / "step-00000008"};
  const nn::RankLayout layout =
      nn::make_layout(reader.manifest().model, nn::whole_model(reader.manifest().model));
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const nn::ParameterStore counted{dry, layout.parameters, DType::f32, false};
  const Exec exec{DeviceKind::cpu, dry.arena().plan()};
  const nn::ParameterStore store{exec, layout.parameters, DType::f32, false};
  load_weights(exec, reader, store);
  for (const char* name : {"embed_tokens", "layers.1.mlp.experts.up_proj", "norm"}) {
    const nn::Parameter& p = layout.parameters.find(name);
    const std::int64_t width = p.spec.shape.back();
    const std::int64_t rows = std::max<std::int64_t>(1, p.spec.shape.rows() - 1);
    const std::int64_t first = p.spec.shape.rows() - rows;
    std::vector<float> values(static_cast<std::size_t>(rows * width));
    reader.read({.name = name, .first_row = first, .rows = rows, .row_elements = width}, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t local = first * width + static_cast<std::int64_t>(i);
      const std::int64_t at =
          p.storage.offset + local / p.storage.inner * p.storage.stride + local % p.storage.inner;
      ASSERT_EQ(store.elem_values().data<float>()[at], values[i]) << name << " " << i;
    }
  }
}

TEST_F(Checkpoint, WrittenWeightsReadBackAndCannotBeResumed) {
  const WeightReader reader{run_dir_ / "step-00000008"};
  const nn::RankLayout layout =
      nn::make_layout(reader.manifest().model, nn::whole_model(reader.manifest().model));
  const fs::path copy = folder_ / "imported" / "step-00000000";
  if (world_.is_root()) {
    write_weights({.checkpoint = copy,
                   .layout = &layout.parameters,
                   .model = reader.manifest().model,
                   .router_bias = read_router_bias(run_dir_ / "step-00000008"),
                   .values = [&reader](const RowWindow& window, std::span<float> values) {
                     reader.read(window, values);
                   }});
  }
  world_.barrier();
  EXPECT_EQ(test::weight_distance(copy, run_dir_ / "step-00000008"), 0.0);
  EXPECT_FALSE(read_router_bias(copy).empty());
  config_.training.run_dir = (folder_ / "imported").string();
  EXPECT_THROW((void)run(config_, world_), InputError);
}

TEST(ModelJson, SurvivesTheRoundTripAndRefusesUnknownKeys) {
  nn::ModelConfig config;
  config.router = "sigmoid";
  config.rope_theta = 123456.789;
  config.dynamic_heads.enabled = true;
  io::Json json = to_json(config);
  EXPECT_EQ(to_json(model_config_from_json(json, "test")), json);
  json["surprise"] = 1;
  EXPECT_THROW((void)model_config_from_json(json, "test"), InputError);
}

}  // namespace
}  // namespace shoal::train
