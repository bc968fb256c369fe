#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include <filesystem>
#include <fstream>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/data/prepare.hpp"
#include "shoal/io/json.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::data {
namespace {

namespace fs = std::filesystem;
using test::throws_with;
using Clean = text::CleanReport;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream{path, std::ios::binary} << text;
}

/// Words drawn by index, so that every rank and every run has the same text.
std::string sample_text(std::uint64_t document, int words) {
  constexpr std::array kWords = {"the",         "shoal", "swims", "north", "and",    "gathers",
                                 "caf\xC3\xA9", "again", "123",   "or\n",  "quick,", "it's"};
  std::string text;
  for (int i = 0; i < words; ++i) {
    const auto b = philox::block(document, philox::Purpose::test, static_cast<std::uint64_t>(i));
    text += std::string{kWords[b.x0 % kWords.size()]} + " ";
  }
  return text;
}

/// Rank 0's folder for all ranks of the test; log lines stay out of the test's output.
class Prepare : public ::testing::Test {
 protected:
  void SetUp() override {
    log::set_sink([](log::Level, std::string_view) {});
    folder_ = world_.broadcast_string(own_.path().string(), 0);
    if (world_.is_root()) {
      for (std::uint64_t i = 0; i < 40; ++i) {
        write(in() / ("d" + std::to_string(i) + ".txt"), sample_text(i, 200));
      }
      std::string lines;
      for (std::uint64_t i = 100; i < 160; ++i) {
        lines += io::Json{{"text", sample_text(i, 50)}}.dump() + "\n";
      }
      write(in() / "e.jsonl", lines);
    }
    world_.barrier();
  }
  void TearDown() override {
    world_.barrier();
    log::set_sink({});
  }

  [[nodiscard]] fs::path in() const { return fs::path{folder_} / "in"; }
  [[nodiscard]] fs::path out() const { return fs::path{folder_} / "out"; }
  [[nodiscard]] PrepareConfig config() const {
    PrepareConfig c;
    c.source.inputs = {in().string()};
    c.output = out().string();
    c.training.vocab_size = 280;
    c.val_fraction = 0.1;
    return c;
  }
  /// On all ranks together, or (ranks = 1) on rank 0 alone while the others wait.
  PrepareReport run(const PrepareConfig& c, bool alone = false) {
    PrepareReport report;
    if (!alone) return prepare(c, world_);
    if (world_.is_root()) report = prepare(c, Communicator::self());
    world_.barrier();
    return report;
  }
  void add_file(const std::string& name, const std::string& text) {
    if (world_.is_root()) write(in() / name, text);
    world_.barrier();
  }

  Communicator world_ = Communicator::world();
  test::TempFolder own_;
  std::string folder_;
};

TEST_F(Prepare, ShardsAreTheSameForAnyNumberOfRanks) {
  PrepareConfig c = config();
  // The large file makes ranges, several shards and duplicates that meet across ranks.
  std::string lines;
  for (std::uint64_t i = 0; i < 2500; ++i) {
    lines += io::Json{{"text", sample_text(i % 2000, 300)}}.dump() + "\n";
  }
  add_file("f.jsonl", lines);
  c.shard_mb = 1;
  const PrepareReport together = run(c);
  c.output = (fs::path{folder_} / "out1").string();
  const PrepareReport alone = run(c, /*alone=*/true);
  if (!world_.is_root()) return;
  EXPECT_GT(together.shards, 4);
  EXPECT_EQ(together.clean[Clean::dropped_duplicate], 500);
  for (const char* name :
       {"report.json", "tokenizer.json", "train/dataset.json", "val/dataset.json"}) {
    EXPECT_EQ(io::read_json_file(out() / name), io::read_json_file(fs::path{c.output} / name))
        << name;
  }
  EXPECT_EQ(together.train_tokens, alone.train_tokens);
}

TEST_F(Prepare, CountsAddUp) {
  const PrepareReport r = run(config());
  EXPECT_EQ(r.clean[Clean::documents_in], 100);
  EXPECT_EQ(r.clean[Clean::documents_kept], 100);
  EXPECT_EQ(r.train_documents + r.val_documents, 100);
  EXPECT_GT(r.val_documents, 0);
  EXPECT_GT(r.train_tokens, r.train_documents);
  EXPECT_EQ(r.source[SourceReport::files_read], 41);
  EXPECT_EQ(r.vocab_size, 280);
  EXPECT_NE(r.describe().find("documents_kept"), std::string::npos);
}

TEST_F(Prepare, TheFirstOfEqualDocumentsStays) {
  // Equal but for white space, in different shards, hence met by different ranks.
  add_file("a0.txt", "only   here and once more");
  add_file("z9.txt", "only here and\nonce more\n");
  PrepareConfig c = config();
  c.tokenizer = "bytes";
  c.val_fraction = 0;
  const PrepareReport with = run(c);
  EXPECT_EQ(with.clean[Clean::dropped_duplicate], 1);
  EXPECT_EQ(with.train_documents, 101);
  c.clean.deduplicate = false;
  c.overwrite = true;
  const PrepareReport without = run(c);
  EXPECT_EQ(without.clean[Clean::dropped_duplicate], 0);
  // What stayed is the earlier spelling, one byte longer than the later one without its line end.
  EXPECT_EQ(without.train_tokens - with.train_tokens, 25);
}

TEST_F(Prepare, TailSplitHoldsOutTheEndOfEachDocument) {
  PrepareConfig c = config();
  if (world_.is_root()) write(fs::path{folder_} / "one.txt", std::string(1000, 'x') + "\n");
  world_.barrier();
  c.source.inputs = {(fs::path{folder_} / "one.txt").string()};
  c.tokenizer = "bytes";
  c.val_split = "tail";
  const PrepareReport r = run(c);
  EXPECT_EQ(r.train_tokens, 900 + 1);
  EXPECT_EQ(r.val_tokens, 101 + 1);
}

TEST_F(Prepare, TokenizerFileIsUsedAsItIs) {
  const PrepareReport trained = run(config());
  PrepareConfig c = config();
  c.tokenizer = (out() / "tokenizer.json").string();
  c.output = (fs::path{folder_} / "again").string();
  const PrepareReport loaded = run(c);
  EXPECT_EQ(loaded.tokenizer_hash, trained.tokenizer_hash);
  EXPECT_EQ(loaded.train_tokens, trained.train_tokens);
}

TEST_F(Prepare, BadInputsAreTheSameErrorOnEveryRank) {
  PrepareConfig c = config();
  c.source.inputs = {(in() / "missing.txt").string()};
  EXPECT_TRUE(throws_with<InputError>([&] { (void)run(c); }, "missing.txt: does not exist"));
  c = config();
  c.tokenizer = (in() / "none.json").string();
  EXPECT_TRUE(throws_with<InputError>([&] { (void)run(c); }, "none.json: cannot be opened"));
  c.tokenizer = (in() / "d0.txt").string();
  EXPECT_TRUE(throws_with<InputError>([&] { (void)run(c); }, "is not JSON"));
  EXPECT_FALSE(fs::exists(out()));
}

// One rank alone meets the damage: the others must hear of it and not wait for ever.
TEST_F(Prepare, DamageThatOneRankMeetsEndsAll) {
  add_file("x.jsonl.gz",
           "\x1F\x8B"
           "damaged");
  PrepareConfig c = config();
  c.source.inputs = {(in() / "d0.txt").string(), (in() / "x.jsonl.gz").string()};
  EXPECT_THROW((void)run(c), InputError);
}

/// While it lives no file can grow beyond `bytes`: writing fails as on a full disk.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) : handler_{std::signal(SIGXFSZ, SIG_IGN)} {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_F(Prepare, FullDiskLeavesNoDatasetAndKeepsTheOldOne) {
  PrepareConfig c = config();
  c.tokenizer = "bytes";
  const auto fails_at = [&](rlim_t bytes) {
    const SmallDisk disk{bytes};
    EXPECT_THROW((void)run(c), Error) << bytes;
  };
  for (const rlim_t bytes : {0, 1000, 8000}) fails_at(bytes);
  EXPECT_FALSE(fs::exists(out()));
  const PrepareReport good = run(c);
  c.overwrite = true;
  fails_at(1000);
  if (!world_.is_root()) return;
  EXPECT_EQ(io::read_json_file(out() / "report.json")["train_tokens"], good.train_tokens);
  EXPECT_FALSE(fs::exists(fs::path{folder_} / "out.tmp"));
}

TEST_F(Prepare, NothingLeftIsAnErrorWithTheCounts) {
  PrepareConfig c = config();
  c.clean.min_words = 100000;
  const auto attempt = [&] { (void)run(c); };
  EXPECT_TRUE(throws_with<InputError>(attempt, "no document is left"));
  EXPECT_TRUE(throws_with<InputError>(attempt, "dropped_too_short"));
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(Prepare, ForeignFoldersAreNeverReplaced) {
  PrepareConfig c = config();
  c.output = in().string();
  c.overwrite = true;
  EXPECT_TRUE(throws_with<InputError>([&] { (void)run(c); }, "not an output of prepare"));
  c.output = (in() / "out").string();
  EXPECT_TRUE(throws_with<InputError>([&] { (void)run(c); }, "lies inside the input"));
  c = config();
  (void)run(c);
  EXPECT_TRUE(throws_with<InputError>([&] { (void)run(c); }, "overwrite = true replaces it"));
  c.overwrite = true;
  EXPECT_EQ(run(c).clean[Clean::documents_in], 100);
}

TEST_F(Prepare, NamesEveryProblemOfAConfig) {
  PrepareConfig c;
  c.tokenizer = "";
  c.val_fraction = 0.9;
  c.val_split = "none";
  c.shard_mb = -1;
  c.train_sample_mb = 0;
  std::vector<std::string> problems;
  validate(c, problems);
  EXPECT_EQ(problems.size(), 7U);  // and no inputs, no output
}

}  // namespace
}  // namespace shoal::data
