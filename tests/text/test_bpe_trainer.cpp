#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "shoal/base/error.hpp"
#include "shoal/text/bpe_trainer.hpp"

namespace shoal::text {
namespace {

const BpeTrainConfig kSmall{.vocab_size = 270, .split = "gpt2"};

nlohmann::json merges_of(const Tokenizer& tokenizer) {
  return nlohmann::json::parse(tokenizer.to_json())["model"]["merges"];
}

TEST(BpeTrainer, MergesTheMostFrequentPairFirst) {
  WordCounts counts{SplitRule::gpt2};
  counts.add_text("abab abab xyxyxy");
  counts.add_word("ab", 10);
  const auto merges = merges_of(*train_bpe(counts, kSmall));
  EXPECT_EQ(merges[0], "a b");  // 14 times
  EXPECT_EQ(merges[1], "x y");  // 3 times, as 'Ġ' + 'x' and others come fewer
}

TEST(BpeTrainer, TiesGoToTheSmallerPair) {
  WordCounts counts{SplitRule::gpt2};
  counts.add_word("zy", 5);
  counts.add_word("bc", 5);
  EXPECT_EQ(merges_of(*train_bpe(counts, kSmall)), (nlohmann::json{"b c", "z y"}));
}

TEST(BpeTrainer, MinFrequencyEndsTraining) {
  WordCounts counts{SplitRule::gpt2};
  counts.add_word("ab", 3);
  counts.add_word("cd", 2);
  BpeTrainConfig config = kSmall;
  config.min_frequency = 3;
  const auto tokenizer = train_bpe(counts, config);
  EXPECT_EQ(merges_of(*tokenizer), nlohmann::json{"a b"});
  EXPECT_EQ(tokenizer->vocab_size(), 258);
}

TEST(BpeTrainer, DoesNotDependOnHowTextWasDealtOut) {
  const std::vector<std::string> texts = {"the cat sat on the mat", "the dog ate the cat's food",
                                          "a theory of the thing", "cats and dogs"};
  WordCounts all{SplitRule::llama3};
  WordCounts even{SplitRule::llama3};
  WordCounts odd{SplitRule::llama3};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    all.add_text(texts[i]);
    (i % 2 == 0 ? even : odd).add_text(texts[i]);
  }
  for (const auto& [word, count] : even.most_frequent(even.distinct())) odd.add_word(word, count);
  BpeTrainConfig config = kSmall;
  config.split = "llama3";
  EXPECT_EQ(train_bpe(all, config)->to_json(), train_bpe(odd, config)->to_json());
}

TEST(BpeTrainer, LimitKeepsTheMostFrequentWords) {
  WordCounts counts{SplitRule::gpt2};
  counts.add_word("bb", 2);
  counts.add_word("aa", 2);
  counts.add_word("cc", 9);
  const auto words = counts.most_frequent(2);
  EXPECT_EQ(words, (std::vector<WordCounts::Word>{{"cc", 9}, {"aa", 2}}));
}

TEST(BpeTrainer, CountsManyWordsExactly) {
  WordCounts counts{SplitRule::gpt2};
  for (int i = 0; i < 20000; ++i) counts.add_word("w" + std::to_string(i % 5000), 1);
  EXPECT_EQ(counts.distinct(), 5000);
  for (const auto& [word, count] : counts.most_frequent(5000)) EXPECT_EQ(count, 4) << word;
}

TEST(BpeTrainer, OverlongPiecesAreNotCounted) {
  WordCounts counts{SplitRule::gpt2};
  counts.add_text(std::string(200, 'x'));
  EXPECT_EQ(counts.distinct(), 0);
}

TEST(BpeTrainer, TextNeverBecomesASpecialToken) {
  WordCounts counts{SplitRule::gpt2};
  counts.add_word("eos", 100);
  BpeTrainConfig config = kSmall;
  config.special_tokens = {"eos"};
  const auto tokenizer = train_bpe(counts, config);
  std::vector<std::uint32_t> ids;
  tokenizer->encode_ordinary("eos", ids);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer->eos_id()), 0);
  EXPECT_EQ(ids.size(), 2U);
}

TEST(BpeTrainer, NamesEveryProblemOfAConfig) {
  std::vector<std::string> problems;
  validate(BpeTrainConfig{.vocab_size = 100,
                          .min_frequency = 0,
                          .split = "words",
                          .special_tokens = {"<e>", "<e>"},
                          .max_distinct_words = 0},
           problems);
  EXPECT_EQ(problems.size(), 5U);
  EXPECT_THROW((void)train_bpe(WordCounts{SplitRule::gpt2}, {.vocab_size = 1}), InputError);
}

}  // namespace
}  // namespace shoal::text
