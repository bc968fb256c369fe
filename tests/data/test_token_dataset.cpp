#include "shoal/data/token_dataset.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "data/token_fixture.hpp"
#include "shoal/base/error.hpp"
#include "shoal/data/describe.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/h5_file.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::data {
namespace {

namespace fs = std::filesystem;
using test::throws_with;

[[nodiscard]] std::vector<std::int32_t> read_all(const TokenDataset& dataset) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.num_tokens()));
  dataset.read(0, tokens);
  return tokens;
}

class TokenWidths : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(TokenWidths, ReadsBackWhatWasWritten) {
  const test::TempFolder folder;
  const auto documents = test::random_documents(300, 1);
  test::write_dataset({.folder = folder.path(), .vocab_size = GetParam()}, documents);
  const TokenDataset dataset{folder.path()};
  EXPECT_NO_THROW(dataset.verify_hashes());
  EXPECT_GT(dataset.shards().size(), 3U);
  EXPECT_EQ(dataset.num_documents(), 300);
  EXPECT_EQ(dataset.text_bytes(), 2 * dataset.num_tokens());
  EXPECT_EQ(read_all(dataset), test::joined(documents));
}
// 16 bits up to 65536 ids, 32 bits above.
INSTANTIATE_TEST_SUITE_P(Vocabularies, TokenWidths, ::testing::Values(100, 65536, 65537));

TEST(TokenDataset, ReadsAnyStretchAcrossShards) {
  const test::TempFolder folder;
  const auto documents = test::random_documents(200, 2);
  test::write_dataset({.folder = folder.path(), .tokens_per_shard = 100}, documents);
  const auto all = test::joined(documents);
  const TokenDataset dataset{folder.path(), {.cache_bytes = 1}};  // one block at a time
  for (const std::int64_t start : {0L, 99L, 100L, 777L, std::ssize(all) - 3}) {
    for (const std::int64_t count : {0L, 1L, 3L, 250L}) {
      if (start + count > std::ssize(all)) continue;
      std::vector<std::int32_t> part(static_cast<std::size_t>(count));
      dataset.read(start, part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + start)) << start;
    }
  }
}

TEST(TokenDataset, ShardsAreWrittenIndependently) {
  const test::TempFolder folder;
  const auto documents = test::random_documents(30, 3);
  const auto info = test::small_info();
  std::vector<ShardSummary> shards(3);
  for (const int k : {2, 0, 1}) {  // any rank, any order
    ShardWriter writer{folder / shard_file_name("small", k, 3), info};
    for (int d = 10 * k; d < 10 * (k + 1); ++d) {
      writer.add({.tokens = documents[static_cast<std::size_t>(d)]});
    }
    shards[static_cast<std::size_t>(k)] = writer.finish();
  }
  EXPECT_FALSE(is_token_data(folder.path()));
  write_dataset_index(folder.path(), info, shards);
  EXPECT_TRUE(fs::exists(folder / "small-00001-of-00003.h5"));
  EXPECT_EQ(read_all(TokenDataset{folder.path()}), test::joined(documents));
}

/// A dataset of one shard, to be damaged.
class DamagedDataset : public ::testing::Test {
 protected:
  DamagedDataset() {
    test::write_dataset({.folder = folder_.path()}, test::random_documents(20, 4));
  }

  void flip_byte(std::int64_t at) {
    std::string bytes = io::read_file(shard_, 1 << 24);
    bytes[static_cast<std::size_t>(at)] ^= 1;
    std::ofstream{shard_, std::ios::binary} << bytes;
  }
  void edit_index(const std::string& key, const io::Json& value) {
    io::Json index = io::read_json_file(folder_ / "dataset.json");
    index[key] = value;
    io::write_json_file(folder_ / "dataset.json", index);
  }

  test::TempFolder folder_;
  fs::path shard_ = folder_ / "small-00000-of-00001.h5";
};

TEST_F(DamagedDataset, EveryFlippedByteIsFoundByTheHash) {
  const auto last = static_cast<std::int64_t>(fs::file_size(shard_)) - 1;
  for (const std::int64_t at : {100L, 2000L, last}) {
    flip_byte(at);
    EXPECT_TRUE(throws_with<InputError>([&] { TokenDataset{folder_.path()}.verify_hashes(); },
                                        "00000-of-00001.h5 has the hash"));
    flip_byte(at);
  }
  EXPECT_NO_THROW(TokenDataset{folder_.path()}.verify_hashes());
}

TEST(TokenDataset, RanksShareTheVerification) {
  const test::TempFolder folder;
  test::write_dataset({.folder = folder.path(), .tokens_per_shard = 50},
                      test::random_documents(20, 7));
  const TokenDataset dataset{folder.path()};
  ASSERT_GE(dataset.shards().size(), 4U);
  const fs::path third = folder / dataset.shards()[2].file;
  std::fstream{third, std::ios::in | std::ios::out}.seekp(200).put('x');
  EXPECT_THROW(dataset.verify_hashes(0, 2), InputError);
  EXPECT_NO_THROW(dataset.verify_hashes(1, 2));
}

// The middle of a large shard is packed tokens: their checksum finds it without the hash.
TEST_F(DamagedDataset, AFlippedTokenIsFoundByTheReadItself) {
  test::write_dataset({.folder = folder_.path(), .tokens_per_shard = 1 << 20},
                      test::random_documents(5000, 4));
  const auto size = static_cast<std::int64_t>(fs::file_size(shard_));
  for (const std::int64_t at : {size / 4, size / 3, size / 2}) {
    flip_byte(at);
    EXPECT_TRUE(throws_with<InputError>([&] { (void)read_all(TokenDataset{folder_.path()}); },
                                        "00000-of-00001.h5: dataset /tokens ["));
    flip_byte(at);
  }
}

TEST_F(DamagedDataset, MissingAndShortenedShardsAreNamed) {
  fs::resize_file(shard_, fs::file_size(shard_) - 1);
  EXPECT_TRUE(
      throws_with<InputError>([&] { TokenDataset{folder_.path()}; }, "bytes, dataset.json says"));
  fs::remove(shard_);
  EXPECT_TRUE(throws_with<InputError>([&] { TokenDataset{folder_.path()}; }, "cannot open shard"));
}

TEST_F(DamagedDataset, AnotherVocabularyOrTokenizerIsNamed) {
  edit_index("vocab_size", 200);
  EXPECT_TRUE(throws_with<InputError>([&] { (void)read_all(TokenDataset{folder_.path()}); },
                                      "00000-of-00001.h5 has a vocabulary of 100"));
  edit_index("vocab_size", 100);
  edit_index("tokenizer_hash", "4567");
  EXPECT_TRUE(throws_with<InputError>([&] { (void)read_all(TokenDataset{folder_.path()}); },
                                      "another tokenizer (0123)"));
}

TEST_F(DamagedDataset, AModelMustCoverTheVocabulary) {
  const TokenDataset dataset{folder_.path()};
  EXPECT_NO_THROW(dataset.require_compatible(128, "0123"));
  EXPECT_NO_THROW(dataset.require_compatible(100, ""));
  EXPECT_TRUE(throws_with<InputError>([&] { dataset.require_compatible(99, ""); },
                                      "has a vocabulary of 100, the model's is only 99"));
  EXPECT_TRUE(
      throws_with<InputError>([&] { dataset.require_compatible(100, "4567"); }, "tokenizer"));
}

TEST_F(DamagedDataset, IdsOutOfRangeAreNamed) {
  io::H5File out = io::H5File::create(shard_);
  std::vector<std::uint16_t> ids(50, 7);
  ids[33] = 100;
  out.write_values<std::uint16_t>("/tokens", ids);
  out.set_attribute("/", "vocab_size", std::int64_t{100});
  out.set_attribute("/", "tokenizer_hash", std::string{"0123"});
  out.commit();
  io::Json index = io::read_json_file(folder_ / "dataset.json");
  index["shards"][0]["tokens"] = 50;
  index["shards"][0]["file_bytes"] = fs::file_size(shard_);
  io::write_json_file(folder_ / "dataset.json", index);
  EXPECT_TRUE(throws_with<InputError>([&] { (void)read_all(TokenDataset{folder_.path()}); },
                                      "00000-of-00001.h5: token 33 has an id"));
}

TEST_F(DamagedDataset, AnIndexWithAPathIsRefused) {
  io::Json index = io::read_json_file(folder_ / "dataset.json");
  index["shards"][0]["file"] = "../../etc/passwd";
  io::write_json_file(folder_ / "dataset.json", index);
  EXPECT_TRUE(
      throws_with<InputError>([&] { TokenDataset{folder_.path()}; }, "not a plain file name"));
  fs::remove(folder_ / "dataset.json");
  EXPECT_TRUE(
      throws_with<InputError>([&] { TokenDataset{folder_.path()}; }, "not a token dataset"));
}

TEST(ShardWriter, RefusesIdsOutsideTheVocabulary) {
  const test::TempFolder folder;
  ShardWriter writer{folder / "x.h5", test::small_info()};
  const std::vector<std::uint32_t> bad{1, 2, 100, test::kEos};
  EXPECT_TRUE(throws_with<InputError>([&] { writer.add({.tokens = bad}); },
                                      "document 0, token 2: id 100 is not below"));
  const std::vector<std::uint32_t> open_end{1, 2}, forged{1, test::kEos, 2, test::kEos};
  EXPECT_THROW(writer.add({.tokens = open_end}), Error);
  EXPECT_THROW(writer.add({.tokens = forged}), Error);
}

TEST(Describe, TellsWhatIsInside) {
  const test::TempFolder folder;
  const auto documents = test::random_documents(50, 5);
  test::write_dataset({.folder = folder.path(), .tokens_per_shard = 100000}, documents);
  const std::string text = describe(folder.path());
  EXPECT_NE(text.find(std::to_string(test::joined(documents).size()) + " tokens, 50 documents"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("tokens a document: mean"), std::string::npos);
  EXPECT_NE(describe(folder / "small-00000-of-00001.h5").find("tokens as u16"), std::string::npos);
  EXPECT_TRUE(throws_with<InputError>([&] { (void)describe(folder / "dataset.json"); }, "neither"));
}

}  // namespace
}  // namespace shoal::data
