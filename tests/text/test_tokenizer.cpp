#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/text/tokenizer.hpp"

namespace shoal::text {
namespace {

using Ids = std::vector<std::uint32_t>;

std::string golden_path(const std::string& name) {
  return std::string{SHOAL_SOURCE_DIR} + "/tests/text/golden/" + name;
}

std::string golden(const std::string& name) {
  std::ifstream file{golden_path(name), std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

Ids encode(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids;
  tokenizer.encode(text, ids);
  return ids;
}

Ids encode_ordinary(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids;
  tokenizer.encode_ordinary(text, ids);
  return ids;
}

std::string random_bytes(std::uint64_t seed, int length) {
  std::string bytes;
  for (int i = 0; i < length; ++i) {
    const auto block = philox::block(seed, philox::Purpose::test, static_cast<std::uint64_t>(i));
    // Half of them from a few, so that merges and white space occur.
    bytes.push_back(
        static_cast<char>((block.x0 & 1U) != 0 ? " ethe\n'ed"[block.x1 % 9] : block.x1));
  }
  return bytes;
}

class Golden : public ::testing::TestWithParam<std::string> {};

// Ids from Hugging Face `tokenizers` (scripts/reference/compare_tokenizer.py --write-golden).
TEST_P(Golden, IdsEqualHuggingFace) {
  const auto tokenizer = load_tokenizer(golden_path(GetParam() + ".json"));
  const auto cases = nlohmann::json::parse(golden(GetParam() + "_ids.json"));
  ASSERT_GT(cases.size(), 100U);
  for (const auto& entry : cases) {
    const auto text = entry["text"].get<std::string>();
    EXPECT_EQ(encode(*tokenizer, text), entry["ids"].get<Ids>()) << entry["text"];
  }
}

TEST_P(Golden, AnyBytesComeBack) {
  const auto tokenizer = load_tokenizer(golden_path(GetParam() + ".json"));
  for (int i = 0; i < 300; ++i) {
    const std::string bytes = random_bytes(static_cast<std::uint64_t>(i), 1 + i);
    ASSERT_EQ(tokenizer->decode(encode(*tokenizer, bytes)), bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Splits, Golden, ::testing::Values("gpt2", "llama3", "qwen2"),
                         [](const auto& info) { return info.param; });

TEST(Tokenizer, ShortAndLongPiecesMergeAlike) {
  const auto tokenizer = load_tokenizer(golden_path("gpt2.json"));
  // 48 bytes is where the algorithm changes; a run of letters is one piece whatever its length.
  const std::string unit = "thereandherewhen";
  for (const int repeats : {1, 2, 3, 4, 40}) {
    std::string text;
    for (int i = 0; i < repeats; ++i) text += unit;
    const Ids once = encode(*tokenizer, text);
    EXPECT_EQ(tokenizer->decode(once), text);
    EXPECT_LT(once.size(), text.size());
    EXPECT_EQ(encode(*tokenizer, text), once);  // the second time from the cache
  }
}

TEST(Tokenizer, CorpusTextCannotForgeSpecialTokens) {
  const auto tokenizer = load_tokenizer(golden_path("llama3.json"));
  const std::string text = "a<|endoftext|>b";
  EXPECT_EQ(encode(*tokenizer, text)[1], tokenizer->eos_id());
  const Ids plain = encode_ordinary(*tokenizer, text);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), tokenizer->eos_id()), 0);
  EXPECT_EQ(tokenizer->decode(plain), text);
}

TEST(Tokenizer, ThreadsShareOne) {
  const auto tokenizer = load_tokenizer(golden_path("gpt2.json"));
  const std::string text = random_bytes(5, 20000);
  const Ids want = encode(*tokenizer, text);
  std::vector<Ids> got(4);
  std::vector<std::thread> threads;
  for (Ids& ids : got) threads.emplace_back([&] { ids = encode(*tokenizer, text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : got) EXPECT_EQ(ids, want);
}

TEST(Tokenizer, BytesAreTheirOwnIds) {
  const auto tokenizer = make_bytes_tokenizer();
  EXPECT_EQ(encode(*tokenizer, std::string_view{"A\xFF\0z", 4}), (Ids{65, 255, 0, 122}));
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->eos_id(), 256U);
  EXPECT_EQ(tokenizer->added_token_id("<|endoftext|>"), 256);
  EXPECT_EQ(tokenizer->added_token_id("<pad>"), -1);
  EXPECT_EQ(encode(*tokenizer, "a<|endoftext|>"), (Ids{97, 256}));
}

TEST(Tokenizer, IdOutsideTheVocabularyIsRefused) {
  EXPECT_THROW((void)make_bytes_tokenizer()->decode(Ids{257}), InputError);
}

TEST(Tokenizer, HashIsOfTheContentNotTheLayout) {
  const std::string text = golden("gpt2.json");
  const auto root = nlohmann::json::parse(text);
  const auto hash = [](const std::string& json) { return parse_tokenizer(json, {})->hash(); };
  EXPECT_EQ(hash(text), hash(root.dump()));
  EXPECT_NE(hash(text), hash(golden("llama3.json")));
  EXPECT_NE(hash(text), make_bytes_tokenizer()->hash());
  EXPECT_EQ(parse_tokenizer(text, {})->to_json(), text);
}

TEST(Tokenizer, EosCanBeNamed) {
  auto root = nlohmann::json::parse(golden("gpt2.json"));
  root["added_tokens"].push_back({{"id", 700}, {"content", "<end>"}, {"special", true}});
  const auto tokenizer = parse_tokenizer(root.dump(), {.eos_token = "<end>"});
  EXPECT_EQ(tokenizer->eos_id(), 700U);
  EXPECT_EQ(tokenizer->vocab_size(), 701);
  EXPECT_EQ(tokenizer->decode(Ids{650, 700}), "<end>");  // an id that nobody uses is empty
  EXPECT_THROW((void)parse_tokenizer(root.dump(), {.eos_token = "<no>"}), InputError);
}

}  // namespace
}  // namespace shoal::text
