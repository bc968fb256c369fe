#include "train/toy.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "shoal/base/philox.hpp"
#include "shoal/data/token_shard.hpp"
#include "shoal/io/h5_file.hpp"
#include "shoal/io/hash.hpp"
#include "shoal/train/plan.hpp"
#include "train/trainer.hpp"

namespace shoal::test {
namespace {

namespace fs = std::filesystem;
constexpr std::uint32_t kEos = 31;
constexpr std::int64_t kDocuments = 60;

std::vector<std::uint32_t> document(std::uint64_t index) {
  std::vector<std::uint32_t> tokens;
  const auto start = philox::block(11, philox::Purpose::test, index);
  std::uint32_t token = start.x0 % kEos;
  const std::uint64_t length = 20 + start.x1 % 40;
  for (std::uint64_t i = 0; i < length; ++i) {
    tokens.push_back(token);
    const auto b = philox::block(12, philox::Purpose::test, index * 1000 + i);
    token = b.x0 % 8 == 0 ? b.x1 % kEos : (token * 7 + 3) % kEos;
  }
  tokens.push_back(kEos);
  return tokens;
}

void digest_group(const io::H5File& file, const std::string& group, std::string& text) {
  if (!file.has(group)) return;
  for (const std::string& name : file.list(group)) {
    const io::H5Dataset dataset = file.dataset(group + "/" + name);
    const io::Slab slab = dataset.whole();
    std::vector<std::byte> bytes(
        static_cast<std::size_t>(slab.elements() * io::size_of(dataset.type())));
    dataset.read(slab, bytes);
    text += group + "/" + name + " " + io::hash_bytes(bytes) + "\n";
  }
}

}  // namespace

fs::path fresh_folder(const Communicator& world, const std::string& name) {
  const std::string base = "shoal-" + std::to_string(::getpid()) + "-" + name;
  const fs::path folder = fs::temp_directory_path() / world.broadcast_string(base, 0);
  if (world.is_root()) {
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  world.barrier();
  return folder;
}

void make_corpus(const Communicator& world, const fs::path& folder) {
  if (world.is_root()) {
    fs::create_directories(folder);
    data::DatasetWriter writer{
        folder, {.vocab_size = kEos + 1, .eos_id = kEos, .tokenizer_hash = "toy"}, 1 << 20};
    for (std::int64_t i = 0; i < kDocuments; ++i) {
      const auto tokens = document(static_cast<std::uint64_t>(i));
      writer.add({.tokens = tokens, .text_bytes = static_cast<std::int64_t>(tokens.size()) - 1});
    }
    (void)writer.finish();
  }
  world.barrier();
}

train::RunConfig toy_config(const fs::path& folder) {
  train::RunConfig c;
  c.model.hidden_size = 16;
  c.model.num_hidden_layers = 2;
  c.model.num_attention_heads = 2;
  c.model.num_key_value_heads = 1;
  c.model.head_dim = 8;
  c.model.max_position_embeddings = 64;
  c.model.intermediate_size = 32;
  c.model.first_k_dense_replace = 1;
  c.model.num_experts = 4;
  c.model.num_experts_per_tok = 2;
  c.model.moe_intermediate_size = 16;
  c.model.router = "sigmoid";
  c.model.router_bias_update_rate = 0.01;
  c.optim.lr = 0.02;
  c.optim.warmup_steps = 2;
  c.training.seq_len = 16;
  c.training.global_batch_size = 4;
  c.training.micro_batch_size = 1;
  c.training.steps = 8;
  c.training.device = "cpu";
  c.training.threads = 1;
  c.training.run_dir = (folder / "run").string();
  c.data.train = (folder / "corpus").string();
  c.data.validation = c.data.train;
  c.eval.interval = 4;
  c.eval.max_windows = 8;
  c.checkpoint.interval = 4;
  c.checkpoint.keep_last = 0;
  return c;
}

train::RunConfig divisible_config(const fs::path& folder) {
  train::RunConfig c = toy_config(folder);
  c.model.num_hidden_layers = 5;
  c.model.num_attention_heads = 4;
  c.model.num_key_value_heads = 2;
  c.model.n_shared_experts = 1;
  c.training.global_batch_size = 8;
  return c;
}

void expect_planned_memory(const train::RunConfig& config, const Communicator& world) {
  const ArenaPlan planned = train::plan(config, world.size(), world.rank()).memory;
  const parallel::ProcessGroups groups{world, config.parallel};
  const comm::CollectivesFactory factory{world, DeviceKind::cpu};
  const auto dataset = std::make_shared<const data::TokenDataset>(config.data.train);
  train::Trainer trainer{{.config = config,
                          .links = {.groups = &groups, .factory = &factory},
                          .shape = train::batch_shape(config.training, groups.dp_size()),
                          .memory = planned,
                          .sources = {{.name = "corpus", .dataset = dataset}},
                          .validation = dataset}};
  (void)trainer.start();
  const train::StopCondition stop{{}};
  ASSERT_EQ(trainer.run(stop), ExitCode::finished);
  const ArenaPlan used = trainer.exec().arena().plan();
  EXPECT_EQ(used.persistent, planned.persistent);
  EXPECT_EQ(used.by_kind, planned.by_kind);
  EXPECT_EQ(used.saved, planned.saved);
  EXPECT_EQ(used.scratch, planned.scratch);
}

std::string state_digest(const fs::path& checkpoint) {
  const io::H5File file = io::H5File::open(checkpoint / "index.h5");
  std::string text;
  for (const char* group : {"/weights", "/optimizer/m", "/optimizer/v", "/optimizer/u", "/state"}) {
    digest_group(file, group, text);
  }
  return text;
}

double weight_distance(const fs::path& a, const fs::path& b) {
  const io::H5File left = io::H5File::open(a / "index.h5");
  const io::H5File right = io::H5File::open(b / "index.h5");
  double worst = 0.0;
  for (const std::string& name : left.list("/weights")) {
    const auto x = left.dataset("/weights/" + name).read_all<float>();
    const auto y = right.dataset("/weights/" + name).read_all<float>();
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
    }
  }
  return worst;
}

train::MetricsTable metrics_of(const fs::path& run_dir) {
  return train::read_journal(run_dir / "metrics.journal");
}

}  // namespace shoal::test
