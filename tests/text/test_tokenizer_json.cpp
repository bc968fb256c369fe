#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/text/tokenizer.hpp"

namespace shoal::text {
namespace {

using nlohmann::json;

std::string base_text() {
  std::ifstream file{std::string{SHOAL_SOURCE_DIR} + "/tests/text/golden/gpt2.json"};
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// The complaint about the file after `change`; empty when it is accepted.
std::string complaint(const std::function<void(json&)>& change) {
  json root = json::parse(base_text());
  change(root);
  try {
    (void)parse_tokenizer(root.dump(), {.name = "t.json"});
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

struct Case {
  std::string name;
  std::function<void(json&)> change;
  std::string says;
};

class Refused : public ::testing::TestWithParam<Case> {};

TEST_P(Refused, WithAMessageThatNamesTheProblem) {
  const std::string text = complaint(GetParam().change);
  EXPECT_NE(text.find(GetParam().says), std::string::npos) << "said: " << text;
  EXPECT_EQ(text.find("t.json"), 0U) << text;
}

const std::vector<Case> kCases = {
    {"no_model", [](json& r) { r.erase("model"); }, "\"model\" is missing"},
    {"model_is_number", [](json& r) { r["model"] = 3; }, "model: must be an object"},
    {"unigram", [](json& r) { r["model"]["type"] = "Unigram"; }, "\"Unigram\" is not supported"},
    {"no_vocab", [](json& r) { r["model"].erase("vocab"); }, "\"vocab\" is missing"},
    {"vocab_is_list", [](json& r) { r["model"]["vocab"] = json::array(); },
     "vocab: must be an object"},
    {"negative_id", [](json& r) { r["model"]["vocab"]["zz"] = -1; },
     "vocab.zz: must be an integer"},
    {"huge_id", [](json& r) { r["model"]["vocab"]["zz"] = 4000000000; },
     "vocab.zz: must be an integer"},
    {"text_id", [](json& r) { r["model"]["vocab"]["zz"] = "7"; }, "vocab.zz: must be an integer"},
    {"same_id", [](json& r) { r["model"]["vocab"]["zz"] = 5; }, "id 5 is given to two tokens"},
    {"missing_byte", [](json& r) { r["model"]["vocab"].erase("a"); },
     "byte 97 (\"a\") has no token"},
    {"merge_unknown", [](json& r) { r["model"]["merges"].push_back("a zzzz"); },
     "\"zzzz\" is not in"},
    {"merge_result_unknown", [](json& r) { r["model"]["merges"].push_back("z z"); },
     "\"zz\" is not in"},
    {"merge_of_three", [](json& r) { r["model"]["merges"].push_back("a b c"); }, "a merge is"},
    {"merge_is_number", [](json& r) { r["model"]["merges"][0] = 1; },
     "merges[0]: must be an array"},
    {"merge_pair_short", [](json& r) { r["model"]["merges"][0] = {"a"}; },
     "a merge has two tokens"},
    {"merge_pair_number",
     [](json& r) {
       r["model"]["merges"][0] = {"a", 1};
     },
     "merges[0][1]: must be a string"},
    {"dropout", [](json& r) { r["model"]["dropout"] = 0.1; }, "dropout: is not supported"},
    {"prefix", [](json& r) { r["model"]["continuing_subword_prefix"] = "##"; },
     "prefix: is not supported"},
    {"suffix", [](json& r) { r["model"]["end_of_word_suffix"] = "</w>"; },
     "suffix: is not supported"},
    {"new_model_key", [](json& r) { r["model"]["magic"] = 1; }, "\"magic\" is not supported"},
    {"new_key", [](json& r) { r["magic"] = 1; }, "\"magic\" is not supported"},
    {"truncation",
     [](json& r) {
       r["truncation"] = {{"max_length", 5}};
     },
     "truncation: is not supported"},
    {"padding",
     [](json& r) {
       r["padding"] = {{"length", 5}};
     },
     "padding: is not supported"},
    {"lowercase",
     [](json& r) {
       r["normalizer"] = {{"type", "Lowercase"}};
     },
     "\"Lowercase\" is not supported"},
    {"no_pretokenizer", [](json& r) { r["pre_tokenizer"] = nullptr; }, "no pre_tokenizer"},
    {"metaspace",
     [](json& r) {
       r["pre_tokenizer"] = {{"type", "Metaspace"}};
     },
     "\"Metaspace\" is not supported"},
    {"no_byte_level", [](json& r) { r["pre_tokenizer"]["pretokenizers"].erase(1); },
     "has no ByteLevel"},
    {"behavior",
     [](json& r) { r["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "MergedWithNext"; },
     "\"MergedWithNext\" is not supported"},
    {"bad_regex",
     [](json& r) { r["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a"; },
     "missing closing parenthesis"},
    {"foreign_regex",
     [](json& r) { r["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\h+"; },
     "\\h is not supported"},
    {"decoder",
     [](json& r) {
       r["decoder"] = {{"type", "Fuse"}};
     },
     "\"Fuse\" is not supported"},
    {"post_processor",
     [](json& r) {
       r["post_processor"] = {{"type", "RobertaProcessing"}};
     },
     "\"RobertaProcessing\" is not supported"},
    {"single_word", [](json& r) { r["added_tokens"][0]["single_word"] = true; },
     "single_word: is not supported"},
    {"empty_added", [](json& r) { r["added_tokens"][0]["content"] = ""; },
     "content: must not be empty"},
    {"added_other_id", [](json& r) { r["added_tokens"][0]["id"] = 9; }, "another id"},
    {"added_taken_id",
     [](json& r) {
       r["added_tokens"].push_back({{"id", 9}, {"content", "<x>"}});
     },
     "id 9 belongs to another token"},
    {"no_eos", [](json& r) { r["added_tokens"] = json::array(); }, "none of the usual names"},
};

INSTANTIATE_TEST_SUITE_P(Files, Refused, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(TokenizerJson, TextThatIsNotJsonIsRefused) {
  for (const char* text :
       {"", "{", "[]", "null", "{\"model\": }", "\xFF\xFE", "{\"version\": \"\xFF\"}"}) {
    EXPECT_THROW((void)parse_tokenizer(text, {}), InputError) << text;
  }
}

TEST(TokenizerJson, DeepNestingIsRefusedNotACrash) {
  const std::string deep(200000, '[');
  EXPECT_THROW((void)parse_tokenizer("{\"model\": " + deep, {}), InputError);
  std::string text = base_text();
  const std::string value = deep + std::string(deep.size(), ']');
  text.replace(text.find("\"trim_offsets\": true"), 20, "\"trim_offsets\": " + value);
  EXPECT_THROW((void)parse_tokenizer(text, {}), InputError);
}

TEST(TokenizerJson, MissingFileIsNamed) {
  try {
    (void)load_tokenizer("/nowhere/tokenizer.json");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string{error.what()}.find("/nowhere/tokenizer.json"), std::string::npos);
  }
}

// Whatever is done to the bytes of a file: a tokenizer or an InputError, nothing else.
TEST(TokenizerJson, RandomDamageNeverCrashes) {
  const std::string text = base_text();
  int refused = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    std::string damaged = text;
    const auto block = philox::block(i, philox::Purpose::test, 0);
    for (std::uint32_t k = 0; k <= block.x2 % 3; ++k) {
      const auto more = philox::block(i, philox::Purpose::test, k + 1);
      const std::size_t at = more.x0 % damaged.size();
      if (more.x3 % 3 == 0)
        damaged.erase(at, more.x1 % 20);
      else if (more.x3 % 3 == 1)
        damaged[at] = static_cast<char>(more.x1);
      else
        damaged.insert(at, text.substr(more.x1 % text.size(), more.x2 % 30));
    }
    try {
      const auto tokenizer = parse_tokenizer(damaged, {});
      std::vector<std::uint32_t> ids;
      tokenizer->encode("some text", ids);
    } catch (const InputError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace shoal::text
