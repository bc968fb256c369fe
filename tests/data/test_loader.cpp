#include "shoal/data/loader.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "data/token_fixture.hpp"
#include "shoal/base/error.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::data {
namespace {

using test::throws_with;

/// One dataset of some thousand tokens for all tests of a suite.
class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() {
    test::write_dataset({.folder = folder_.path()}, test::random_documents(400, 6));
    dataset_ = std::make_shared<const TokenDataset>(folder_.path());
  }
  [[nodiscard]] std::vector<BlendSource> sources() const { return {{"small", dataset_, 1.0}}; }

  test::TempFolder folder_;
  std::shared_ptr<const TokenDataset> dataset_;
};

constexpr LoaderConfig kConfig{.seed = 1, .sequence = 24, .global_batch = 12, .micro_batch = 2};

/// The tokens of a step over all ranks, in the order of the global batch.
[[nodiscard]] std::vector<std::int32_t> step_tokens(std::vector<Loader>& ranks) {
  std::vector<std::int32_t> all;
  for (Loader& rank : ranks) {
    const StepBatch& step = rank.next();
    for (std::int64_t i = 0; i < step.num_micro_batches(); ++i) {
      const BatchView view = step.micro_batch(i);
      EXPECT_EQ(view.first_token, std::ssize(all));
      all.insert(all.end(), view.token_T.begin(), view.token_T.end());
    }
  }
  return all;
}

TEST_F(LoaderTest, AnyNumberOfRanksConsumesTheSameSamples) {
  std::vector<Loader> one, three;
  one.emplace_back(kConfig, sources(), DataRank{0, 1});
  for (const std::int64_t r : {0, 1, 2}) three.emplace_back(kConfig, sources(), DataRank{r, 3});
  for (int step = 0; step < 50; ++step) {
    EXPECT_EQ(step_tokens(one), step_tokens(three));
    EXPECT_EQ(one[0].ledger(), three[2].ledger());
  }
}

// Steps are prefetched, so the sampler itself is ahead; the ledger must not be.
TEST_F(LoaderTest, ResumesExactlyWhereBatchesWereDelivered) {
  std::vector<Loader> whole, begun, resumed;
  whole.emplace_back(kConfig, sources(), DataRank{0, 1});
  begun.emplace_back(kConfig, sources(), DataRank{0, 1});
  for (int step = 0; step < 7; ++step) EXPECT_EQ(step_tokens(whole), step_tokens(begun));
  LoaderConfig smaller = kConfig;
  smaller.global_batch = 4;
  for (const std::int64_t r : {0, 1}) {
    resumed.emplace_back(smaller, sources(), DataRank{r, 2}, begun[0].ledger());
  }
  for (int step = 0; step < 20; ++step) {
    std::vector<std::int32_t> parts;
    for (int i = 0; i < 3; ++i) {
      const auto part = step_tokens(resumed);
      parts.insert(parts.end(), part.begin(), part.end());
    }
    EXPECT_EQ(step_tokens(whole), parts);
  }
}

/// What the definitions of BatchView say, token by token.
void check_documents(const BatchView& view, bool cross_document) {
  for (std::int64_t t = 0; t < std::ssize(view.token_T); ++t) {
    const auto i = static_cast<std::size_t>(t);
    const bool first = t % view.sequence == 0;
    const bool starts =
        first || (!cross_document && view.token_T[i - 1] == static_cast<int>(test::kEos));
    EXPECT_EQ(view.doc_start_T[i], starts ? t : view.doc_start_T[i - 1]);
    EXPECT_EQ(view.position_T[i], t - view.doc_start_T[i]);
    EXPECT_EQ(view.mask_T[i] == 1,
              cross_document || view.token_T[i] != static_cast<int>(test::kEos));
    if (t % view.sequence != view.sequence - 1) {
      EXPECT_EQ(view.target_T[i], view.token_T[i + 1]);
    }
  }
  EXPECT_EQ(view.targets, std::count(view.mask_T.begin(), view.mask_T.end(), 1));
}

TEST_F(LoaderTest, MarksDocuments) {
  for (const bool cross : {false, true}) {
    LoaderConfig config = kConfig;
    config.cross_document = cross;
    Loader loader{config, sources(), {}};
    for (int step = 0; step < 5; ++step) {
      const StepBatch& batch = loader.next();
      std::int64_t targets = 0;
      for (std::int64_t i = 0; i < batch.num_micro_batches(); ++i) {
        check_documents(batch.micro_batch(i), cross);
        targets += batch.micro_batch(i).targets;
      }
      EXPECT_EQ(batch.targets(), targets);
    }
  }
}

TEST_F(LoaderTest, RefusesABatchThatDoesNotDivide) {
  EXPECT_TRUE(throws_with<InputError>(
      [&] {
        Loader(kConfig, sources(), DataRank{0, 5});
      },
      "must be a multiple of micro-batch 2 times 5"));
  EXPECT_TRUE(throws_with<InputError>([&] { Loader(kConfig, {}, {}); }, "no training data"));
}

TEST_F(LoaderTest, DamageFoundWhilePrefetchingReachesTheCaller) {
  const auto shard = folder_ / dataset_->shards()[0].file;
  std::fstream file{shard, std::ios::in | std::ios::out | std::ios::binary};
  std::string bytes(static_cast<std::size_t>(std::filesystem::file_size(shard)), '\0');
  file.read(bytes.data(), std::ssize(bytes));
  // Packed tokens are the only long stretch without zeros.
  for (std::size_t at = bytes.size() / 3; at < bytes.size(); ++at) {
    if (bytes[at] != 0) bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
  }
  file.seekp(0);
  file.write(bytes.data(), std::ssize(bytes));
  file.close();
  Loader loader{kConfig, sources(), {}};
  EXPECT_TRUE(throws_with<InputError>(
      [&] {
        for (int step = 0; step < 50; ++step) (void)loader.next();
      },
      dataset_->shards()[0].file));
}

TEST_F(LoaderTest, EvaluationSeesEveryTargetOnceForAnyRanks) {
  const auto all = test::joined(test::random_documents(400, 6));
  const auto eos = std::count(all.begin(), all.end() - 1, static_cast<std::int32_t>(test::kEos));
  for (const std::int64_t ranks : {1, 3}) {
    std::vector<std::int32_t> seen;
    std::int64_t targets = 0;
    std::vector<EvalLoader> loaders;
    for (std::int64_t r = 0; r < ranks; ++r) {
      loaders.emplace_back(EvalConfig{.sequence = 37, .micro_batch = 4}, dataset_,
                           DataRank{r, ranks});
    }
    for (std::int64_t i = 0; i < loaders[0].num_micro_batches(); ++i) {
      for (EvalLoader& loader : loaders) {
        const BatchView view = loader.micro_batch(i);
        targets += view.targets;
        seen.insert(seen.end(), view.token_T.begin(), view.token_T.end());
      }
    }
    EXPECT_EQ(targets, std::ssize(all) - 1 - eos);
    EXPECT_TRUE(std::equal(all.begin(), all.end() - 1, seen.begin()));
  }
}

TEST_F(LoaderTest, EvaluationCanBeLimited) {
  EvalLoader loader{{.sequence = 10, .micro_batch = 4, .max_sequences = 5}, dataset_, {}};
  EXPECT_EQ(loader.num_sequences(), 5);
  EXPECT_EQ(loader.num_micro_batches(), 2);
  const BatchView last = loader.micro_batch(1);
  EXPECT_EQ(std::count(last.mask_T.begin() + 10, last.mask_T.end(), 1), 0);
  EXPECT_GT(std::count(last.mask_T.begin(), last.mask_T.begin() + 10, 1), 0);
}

}  // namespace
}  // namespace shoal::data
