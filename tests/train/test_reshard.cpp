#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "parallel/sharded_layout.hpp"
#include "train/checkpoint_save.hpp"
#include "train/parameter_io.hpp"
#include "train/restart.hpp"
#include "train/toy.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;
using parallel::ParallelConfig;

/// One rank's slices in host memory: one vector for each parameter.
struct Slices {
  nn::ParameterLayout layout;
  parallel::ShardPlan plan;
  std::vector<std::vector<float>> values;

  Slices(const parallel::Layout& ranks, int rank, bool zero)
      : layout{test::sharded_layout(ranks, rank)}, plan{layout, ranks, rank, zero} {
    for (const nn::Parameter& p : layout.parameters()) {
      values.emplace_back(static_cast<std::size_t>(p.storage.elements()), -1.0F);
    }
  }
  [[nodiscard]] const nn::ParameterSpec& spec(int parameter) const {
    return layout.parameters()[static_cast<std::size_t>(parameter)].spec;
  }
  [[nodiscard]] float* at(const Field::Window& w) {
    return values[static_cast<std::size_t>(w.parameter)].data() + w.first;
  }
  [[nodiscard]] Field field(bool held_only) {
    return {.group = "weights",
            .held_only = held_only,
            .get =
                [this](const Field::Window& w, std::byte* host) {
                  std::copy_n(reinterpret_cast<std::byte*>(at(w)), w.count * 4, host);
                },
            .set =
                [this](const Field::Window& w, const std::byte* host) {
                  std::copy_n(host, w.count * 4, reinterpret_cast<std::byte*>(at(w)));
                }};
  }
};

/// Saves the global index of each element as its value.
void save(const Communicator& world, const fs::path& folder, const ParallelConfig& config) {
  Slices rank{parallel::make_layout(config, world.size()), world.rank(), config.zero};
  const Field field = rank.field(true);
  SaveRequest request{.checkpoint = folder, .manifest = {.state = io::Json::object()}};
  for (const parallel::RowShard& shard : rank.plan.shards()) {
    const nn::ParameterSpec& spec = rank.spec(shard.parameter);
    for (std::int64_t i = 0; i < shard.elements(); ++i) {
      rank.values[static_cast<std::size_t>(shard.parameter)][static_cast<std::size_t>(i)] =
          static_cast<float>(nn::global_run(spec, i).global);
    }
    if (!shard.counted) continue;
    request.datasets.push_back(
        {.path = "/weights/" + spec.name,
         .global = spec.shape,
         .slice = spec.slice,
         .rows = shard.held,
         .write = [&field, &spec, &shard](io::H5Stream& stream) {
           write_local(stream, {.field = &field, .spec = &spec, .parameter = shard.parameter},
                       shard.first_element(), shard.held_elements());
         }});
  }
  save_folder(request, world);
}

/// Any rank of any layout must find its elements: all of its slice, or the rows it holds.
void expect_loads(const io::H5File& index, const parallel::Layout& ranks, int rank,
                  bool held_only) {
  Slices mine{ranks, rank, true};
  const Field field = mine.field(held_only);
  for (const parallel::RowShard& shard : mine.plan.shards()) {
    const nn::ParameterSpec& spec = mine.spec(shard.parameter);
    const parallel::RowRange whole{0, shard.rows};
    const parallel::RowRange rows = held_only ? shard.held : whole;
    read_global(index.dataset("/weights/" + spec.name),
                {.field = &field, .spec = &spec, .parameter = shard.parameter}, rows);
    const std::int64_t first = rows.first * shard.row_elements;
    const std::int64_t end = first + rows.count * shard.row_elements;
    for (std::int64_t i = 0; i < shard.elements(); ++i) {
      const auto global = static_cast<float>(nn::global_run(spec, i).global);
      ASSERT_EQ(mine.at({.parameter = shard.parameter, .first = i})[0],
                i >= first && i < end ? global : -1.0F)
          << spec.name << " " << i << " of rank " << rank << " on " << ranks.dense.describe();
    }
  }
}

std::vector<ParallelConfig> configs(int ranks) {
  std::vector<ParallelConfig> all = {{}, {.zero = false}};
  if (ranks >= 2) all.insert(all.end(), {{.tp = 2}, {.pp = 2}, {.ep = 2, .zero = false}});
  if (ranks >= 4) all.insert(all.end(), {{.tp = 2, .ep = 4}, {.tp = 2, .pp = 2, .ep = 2}});
  return all;
}

TEST(Reshard, WhatAnyLayoutSavesAnyRankOfAnyLayoutLoads) {
  const Communicator world = Communicator::world();
  const fs::path folder = test::fresh_folder(world, "reshard");
  for (const ParallelConfig& config : configs(world.size())) {
    const fs::path checkpoint = folder / "step-00000001";
    save(world, checkpoint, config);
    const Manifest manifest = read_manifest(checkpoint);
    EXPECT_EQ(manifest.files.size(), static_cast<std::size_t>(world.size()) + 1);
    verify_hashes(checkpoint, manifest);
    const io::H5File index = io::H5File::open(checkpoint / "index.h5");
    for (const int ranks : {1, 2, 4, 8}) {
      for (const ParallelConfig& other : configs(ranks)) {
        const parallel::Layout layout = parallel::make_layout(other, ranks);
        for (int rank = 0; rank < ranks; ++rank) {
          expect_loads(index, layout, rank, false);
          expect_loads(index, layout, rank, true);
        }
      }
    }
    world.barrier();
  }
  if (world.is_root()) fs::remove_all(folder);
}

TEST(Reshard, TheIndexShowsWholeTensors) {
  const Communicator world = Communicator::world();
  const fs::path folder = test::fresh_folder(world, "whole");
  save(world, folder / "step-00000001", configs(world.size()).back());
  const nn::ParameterLayout global = test::sharded_layout(parallel::make_layout({}, 1), 0);
  const io::H5File index = io::H5File::open(folder / "step-00000001" / "index.h5");
  for (const nn::Parameter& p : global.parameters()) {
    std::vector<float> want(static_cast<std::size_t>(p.spec.shape.elements()));
    std::iota(want.begin(), want.end(), 0.0F);
    const io::H5Dataset dataset = index.dataset("/weights/" + p.spec.name);
    EXPECT_EQ(dataset.shape(), p.spec.shape);
    EXPECT_EQ(dataset.read_all<float>(), want) << p.spec.name;
  }
  world.barrier();
  if (world.is_root()) fs::remove_all(folder);
}

/// The failure of one rank is the failure of all, and what was there stays.
TEST(Reshard, AFailingWriterFailsAllAndLeavesNothing) {
  const Communicator world = Communicator::world();
  const fs::path folder = test::fresh_folder(world, "failing");
  const Shape shape{8};
  SaveRequest request{.checkpoint = folder / "step-00000001",
                      .manifest = {.state = io::Json::object()}};
  if (world.rank() == world.size() - 1) {
    request.datasets.push_back({.path = "/weights/x",
                                .global = shape,
                                .slice = nn::whole(shape),
                                .rows = {0, 8},
                                .write = [](io::H5Stream&) { throw Error{"the disk is full"}; }});
  }
  try {
    save_folder(request, world);
    FAIL() << "nobody noticed";
  } catch (const Error& error) {
    EXPECT_NE(std::string{error.what()}.find("the disk is full"), std::string::npos);
  }
  world.barrier();  // the first rank has cleaned up
  EXPECT_FALSE(fs::exists(folder / "step-00000001"));
  EXPECT_FALSE(fs::exists(folder / "step-00000001.tmp"));
  world.barrier();
  if (world.is_root()) fs::remove_all(folder);
}

TEST(Reshard, RowsThatNobodyWroteAreNoticed) {
  const Communicator world = Communicator::world();
  const fs::path folder = test::fresh_folder(world, "gap");
  SaveRequest request{.checkpoint = folder / "step-00000001",
                      .manifest = {.state = io::Json::object()}};
  if (world.is_root()) {
    request.datasets.push_back({.path = "/weights/x",
                                .global = {8},
                                .slice = nn::whole({8}),
                                .rows = {0, 7},
                                .write = [](io::H5Stream& stream) {
                                  const std::vector<float> values(7);
                                  stream.append_values(std::span<const float>{values});
                                }});
  }
  EXPECT_THROW(save_folder(request, world), Error);
  world.barrier();
  if (world.is_root()) fs::remove_all(folder);
}

/// Loads a checkpoint on the ranks of `group` and saves it again.
void pass_on(const Communicator& group, RunConfig config, const fs::path& from,
             const fs::path& to) {
  const parallel::ProcessGroups groups{group, config.parallel};
  const comm::CollectivesFactory factory{group, DeviceKind::cpu};
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const TrainState counted{dry, config, {.groups = &groups, .factory = &factory}};
  const Exec exec{DeviceKind::cpu, dry.arena().plan()};
  const TrainState state{exec, config, {.groups = &groups, .factory = &factory}};
  const Progress progress = load_checkpoint(exec, from, config, state);
  config.training.run_dir = to.string();
  save_checkpoint(exec,
                  {.config = &config, .state = &state, .progress = &progress, .groups = &groups});
}

/// Layouts that a state passes through, as far as there are ranks for them.
struct Hop {
  int ranks;
  ParallelConfig config;
};
std::vector<Hop> hops(int ranks) {
  std::vector<Hop> all = {{1, {.zero = false}}, {1, {}}};
  if (ranks >= 2) all.insert(all.begin(), {{2, {.tp = 2}}, {2, {.pp = 2, .zero = false}}});
  if (ranks >= 4) {
    all.insert(all.begin(), {{4, {.tp = 2, .pp = 2, .ep = 2}}, {4, {.zero = false}}});
    all.push_back({4, {.tp = 2, .ep = 4}});
  }
  all.push_back({ranks, {}});
  return all;
}

/// A run's state, saved by all ranks, passes through other layouts without losing a bit.
TEST(Reshard, StatesOfARunSurviveEveryLayout) {
  const Communicator world = Communicator::world();
  const fs::path folder = test::fresh_folder(world, "states");
  test::make_corpus(world, folder / "corpus");
  for (const char* precision : {"bf16", "fp16"}) {
    RunConfig config = test::toy_config(folder);
    config.training.steps = 4;
    config.model.vocab_size = 32;
    config.model.num_attention_heads = 4;
    config.model.num_key_value_heads = 2;
    config.model.tie_word_embeddings = true;
    config.training.precision = precision;
    config.optim.state_dtype = "bf16";
    config.training.run_dir = (folder / precision).string();
    ASSERT_EQ(run(config, world), ExitCode::finished);
    fs::path at = folder / precision / "step-00000004";
    const std::string digest = test::state_digest(at);
    for (const Hop& hop : hops(world.size())) {
      const bool takes_part = world.rank() < hop.ranks;
      const Communicator group = world.split({.color = takes_part ? 0 : 1, .key = world.rank()});
      const fs::path next = at.parent_path() / "next";
      config.parallel = hop.config;
      if (takes_part) pass_on(group, config, at, next);
      world.barrier();
      at = next / "step-00000004";
      const std::string layout = parallel::make_layout(hop.config, hop.ranks).dense.describe();
      EXPECT_EQ(read_manifest(at).layout, layout);
      EXPECT_EQ(test::state_digest(at), digest) << layout;
    }
  }
  world.barrier();
  if (world.is_root()) fs::remove_all(folder);
}

}  // namespace
}  // namespace shoal::train
