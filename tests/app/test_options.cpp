#include <gtest/gtest.h>

#include <fstream>

#include "shoal/app/config.hpp"
#include "shoal/app/options.hpp"
#include "shoal/base/error.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::app {
namespace {

using Words = std::vector<std::string>;

class Options : public ::testing::Test {
 protected:
  ParsedOptions parse(const Words& words) {
    const OptionRules rules{.own = {"clean", "model"},
                            .sections = {"model", "clean"},
                            .input_file = true,
                            .max_arguments = 1};
    return parse_options(words, rules, keys_, problems_);
  }
  std::string write(const std::string& text) {
    const auto path = folder_ / "in.ini";
    std::ofstream{path} << text;
    return path.string();
  }
  /// True when exactly one problem was found and it holds every part.
  ::testing::AssertionResult one_problem(const Words& parts) {
    if (problems_.size() != 1) {
      return ::testing::AssertionFailure() << problems_.size() << " problems";
    }
    for (const auto& part : parts) {
      if (problems_[0].find(part) == std::string::npos) {
        return ::testing::AssertionFailure() << "no \"" << part << "\" in: " << problems_[0];
      }
    }
    return ::testing::AssertionSuccess();
  }

  test::TempFolder folder_;
  Config config_;
  KeyTable keys_ = make_key_table(config_);
  Words problems_;
};

TEST_F(Options, CommandLineBeatsFileBeatsDefault) {
  const auto file = write("[model]\nhidden_size = 96\nnum_experts = 16\n");
  (void)parse({file, "--model.hidden_size=48"});
  EXPECT_TRUE(problems_.empty());
  EXPECT_EQ(config_.run.model.hidden_size, 48);
  EXPECT_EQ(config_.run.model.num_experts, 16);
  EXPECT_EQ(config_.run.model.num_experts_per_tok, nn::ModelConfig{}.num_experts_per_tok);
}

TEST_F(Options, EverySpellingOfAnAssignment) {
  (void)parse({"--model.hidden_size", "32", "model.head_dim=8", "--min-words=3", "--num_experts=3",
               "--model.tie-word-embeddings", "--model.rope_theta=1e6"});
  EXPECT_TRUE(problems_.empty());
  EXPECT_EQ(config_.run.model.hidden_size, 32);
  EXPECT_EQ(config_.run.model.head_dim, 8);
  EXPECT_EQ(config_.prepare.clean.min_words, 3);
  EXPECT_EQ(config_.run.model.num_experts, 3);
  EXPECT_TRUE(config_.run.model.tie_word_embeddings);
  EXPECT_DOUBLE_EQ(config_.run.model.rope_theta, 1e6);
}

TEST_F(Options, ASwitchTakesAWordThatIsItsValue) {
  const auto parsed = parse({"--deduplicate", "off", "--strip-controls", "plain",
                             "--tie-word-embeddings", "on", "--use-qk-norm=off"});
  EXPECT_TRUE(problems_.empty());
  EXPECT_FALSE(config_.prepare.clean.deduplicate);
  EXPECT_TRUE(config_.prepare.clean.strip_controls);
  EXPECT_EQ(parsed.arguments, Words{"plain"});
  EXPECT_TRUE(config_.run.model.tie_word_embeddings);
  EXPECT_FALSE(config_.run.model.use_qk_norm);
}

TEST_F(Options, TheGraphOfAStepCanBeSwitchedOff) {
  (void)parse_options({"--cuda-graph", "off"},
                      {.own = {"bench", "training"}, .sections = {"training"}}, keys_, problems_);
  EXPECT_TRUE(problems_.empty());
  EXPECT_FALSE(config_.run.training.cuda_graph);
}

TEST_F(Options, ValuesMayHoldEqualsSignsAndDots) {
  (void)parse({"--normalization=a.b=c"});
  EXPECT_TRUE(problems_.empty());
  EXPECT_EQ(config_.prepare.clean.normalization, "a.b=c");
}

TEST_F(Options, UnknownKeysAreProblemsWithASuggestion) {
  (void)parse({"--model.hiden_size=32"});
  EXPECT_TRUE(one_problem({"model.hiden_size", "did you mean \"model.hidden_size\""}));
}

TEST_F(Options, UnknownKeysOfAFileNameTheFile) {
  const auto file = write("[model]\nwidth_of_it_all = 3\n");
  (void)parse({file});
  EXPECT_TRUE(one_problem({file, "model.width_of_it_all"}));
}

TEST_F(Options, AllProblemsAreReportedTogether) {
  const auto file = write("[model]\nhidden_size = wide\nno_such = 1\n");
  (void)parse({file, "--model.num_experts=2.5", "--other=1"});
  ASSERT_EQ(problems_.size(), 4U);
  EXPECT_TRUE(test::throws_with<InputError>([&] { require_no_problems(problems_); }, "4 problems"));
}

TEST_F(Options, WrongTypesNameKeyValueAndWhatIsAllowed) {
  (void)parse({"--model.num_experts=2.5"});
  EXPECT_TRUE(one_problem({"model.num_experts", "\"2.5\"", "integer"}));
  EXPECT_EQ(config_.run.model.num_experts, nn::ModelConfig{}.num_experts);
}

TEST_F(Options, InfinitiesAreNotNumbers) {
  (void)parse({"--model.rope_theta=inf"});
  EXPECT_TRUE(one_problem({"model.rope_theta", "number"}));
}

TEST_F(Options, KeysOfOtherCommandsAreRefusedOnTheCommandLineOnly) {
  (void)parse({"--tokenizer.vocab_size=300"});
  EXPECT_TRUE(one_problem({"tokenizer.vocab_size", "no meaning for this command"}));
  problems_.clear();
  (void)parse({write("[tokenizer]\nvocab_size = 301\n")});
  EXPECT_TRUE(problems_.empty());
  EXPECT_EQ(config_.prepare.training.vocab_size, 301);
}

TEST_F(Options, AKeyGivenTwiceIsAProblem) {
  (void)parse({write("[model]\nhidden_size = 8\nhidden_size = 16\n")});
  EXPECT_TRUE(one_problem({"model.hidden_size", "twice"}));
}

TEST_F(Options, AMissingInputFileIsAProblem) {
  (void)parse({(folder_ / "none.ini").string()});
  EXPECT_TRUE(one_problem({"none.ini", "cannot read"}));
}

TEST_F(Options, AFileThatIsNotIniIsAProblem) {
  (void)parse({write("this is no assignment\n")});
  EXPECT_TRUE(one_problem({"in.ini", "this is no assignment"}));
}

TEST_F(Options, TooManyArgumentsAreAProblem) {
  const auto parsed = parse({"first", "second"});
  EXPECT_EQ(parsed.arguments.front(), "first");
  EXPECT_TRUE(one_problem({"\"second\""}));
}

TEST_F(Options, TheEffectiveConfigurationReadsBackTheSame) {
  (void)parse({"--model.rms_norm_eps=1e-5", "--model.router=sigmoid", "--deduplicate=false",
               "--model.rope_theta=12345.678"});
  const std::string saved = keys_.to_ini({"model", "clean", "tokenizer"});
  Config again;
  const KeyTable keys = make_key_table(again);
  (void)parse_options({write(saved)}, {.input_file = true}, keys, problems_);
  EXPECT_TRUE(problems_.empty());
  EXPECT_EQ(keys.to_ini({"model", "clean", "tokenizer"}), saved);
  EXPECT_DOUBLE_EQ(again.run.model.rope_theta, 12345.678);
  EXPECT_FALSE(again.prepare.clean.deduplicate);
}

}  // namespace
}  // namespace shoal::app
