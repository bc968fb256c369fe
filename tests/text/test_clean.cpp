#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/text/clean.hpp"

namespace shoal::text {
namespace {

using Report = CleanReport;

/// Outcome of one document under one config.
struct Cleaned {
  explicit Cleaned(std::string_view raw, CleanConfig config = {}) {
    kept = Cleaner{std::move(config)}.clean(raw, out, report);
  }
  bool kept;
  std::string out;
  Report report;
};

/// `rare` once among enough ordinary words.
std::string diluted(std::string_view rare, int words) {
  std::string text{rare};
  for (int i = 0; i < words; ++i) text += " word";
  return text;
}

TEST(Clean, LeavesOrdinaryTextAlone) {
  const std::string text = "A caf\xC3\xA9, \xE4\xBD\xA0\xE5\xA5\xBD.\n\tIndented line.\n";
  const Cleaned run{text};
  EXPECT_TRUE(run.kept);
  EXPECT_EQ(run.out, text);
  EXPECT_EQ(run.report[Report::documents_kept], 1);
  EXPECT_EQ(run.report[Report::bytes_kept], static_cast<std::int64_t>(text.size()));
}

TEST(Clean, RepairsInvalidUtf8AndCountsIt) {
  const Cleaned run{diluted("caf\xE9", 500)};
  EXPECT_TRUE(run.kept);
  EXPECT_TRUE(run.out.starts_with("caf\xEF\xBF\xBD word"));
  EXPECT_EQ(run.report[Report::repaired_documents], 1);
  EXPECT_EQ(run.report[Report::repaired_sequences], 1);
}

TEST(Clean, DropsTextOfAnotherEncoding) {
  EXPECT_EQ(Cleaned{"d\xE9j\xE0 vu"}.report[Report::dropped_replacement], 1);
  EXPECT_TRUE((Cleaned{"d\xE9j\xE0 vu", {.max_replacement_ratio = 1}}.kept));
}

TEST(Clean, NormalisesToNfcByDefault) {
  const Cleaned run{"cafe\xCC\x81 au lait"};
  EXPECT_EQ(run.out, "caf\xC3\xA9 au lait");
  EXPECT_EQ(run.report[Report::normalized_documents], 1);
  EXPECT_EQ((Cleaned{"cafe\xCC\x81", {.normalization = "none"}}.out), "cafe\xCC\x81");
  EXPECT_EQ((Cleaned{"\xEF\xAC\x81n", {.normalization = "nfkc"}}.out), "fin");
  EXPECT_EQ(Cleaned{"\xEF\xAC\x81n"}.out, "\xEF\xAC\x81n");
}

TEST(Clean, UnifiesLineEndsAndDropsControls) {
  const Cleaned run{
      diluted("\xEF\xBB\xBF"
              "a\r\nb\rc\fd\x01",
              100)};
  EXPECT_TRUE(run.out.starts_with("a\nb\nc\nd word"));
  EXPECT_EQ(run.report[Report::controls_removed], 2);
  EXPECT_TRUE((Cleaned{"a\r\nb", {.strip_controls = false}}.out == "a\r\nb"));
}

// What stood between a letter and its mark goes first: the result is composed.
TEST(Clean, NormalisesWhatItReturns) {
  EXPECT_EQ((Cleaned{"a\xEF\xBB\xBF\xCC\x81", {.max_badness = 0}}.out), "\xC3\xA1");
}

TEST(Clean, ControlsAreNoWords) {
  EXPECT_EQ(Cleaned{"\xEF\xBB\xBF"}.report[Report::dropped_empty], 1);
  EXPECT_EQ((Cleaned{"\x01\x02", {.max_control_ratio = 1}}.report[Report::dropped_empty]), 1);
  const Cleaned run{"\x01word", {.max_control_ratio = 1}};
  EXPECT_EQ(run.out, "word");
}

TEST(Clean, DropsBinary) {
  EXPECT_EQ((Cleaned{std::string_view{"\x7F"
                                      "ELF\x01\x02\0\0 text",
                                      13}}
                 .report[Report::dropped_control]),
            1);
}

TEST(Clean, DropsPrivateUse) {
  EXPECT_EQ(Cleaned{"\xEE\x80\x80\xEE\x80\x81 icons"}.report[Report::dropped_private_use], 1);
}

TEST(Clean, DropsMojibake) {
  const Cleaned run{"Le cafÃ© Ã  cÃ´tÃ© dâ€™ici"};
  EXPECT_EQ(run.report[Report::dropped_badness], 1);
  EXPECT_TRUE((Cleaned{"Le cafÃ© Ã  cÃ´tÃ©", {.max_badness = 0}}.kept));
}

TEST(Clean, KeepsHonestForeignText) {
  for (const char* text : {"Съешь же ещё этих мягких французских булок", "使用Python编程语言写程序",
                           "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία", "नमस्ते दुनिया", "สวัสดีชาวโลก",
                           "مرحبا بالعالم", "Übergrößenträger, naïve façade, Ærøskøbing",
                           "👩‍👩‍👧 ❤️ 1️⃣ 🇩🇪", "안녕하세요 세계"}) {
    EXPECT_TRUE(Cleaned{text}.kept) << text << "\n" << Cleaned{text}.report.describe();
  }
}

TEST(Clean, LengthFilterIsOffByDefaultAndHasBothBounds) {
  EXPECT_TRUE(Cleaned{"one"}.kept);
  EXPECT_EQ((Cleaned{"one two", {.min_words = 3}}.report[Report::dropped_too_short]), 1);
  EXPECT_EQ((Cleaned{"a b c d", {.max_words = 3}}.report[Report::dropped_too_long]), 1);
  EXPECT_TRUE(
      (Cleaned{"a b\xC2\xA0"
               "c",
               {.min_words = 3, .max_words = 3}}
           .kept));
  EXPECT_EQ(Cleaned{" \n\xE3\x80\x80"}.report[Report::dropped_empty], 1);
  EXPECT_EQ(Cleaned{""}.report[Report::dropped_empty], 1);
}

TEST(Clean, KeyIgnoresWhiteSpaceAndNormalisationOnly) {
  EXPECT_EQ(dedup_key("a  b\n"), dedup_key(" a\xC2\xA0"
                                           "b"));
  EXPECT_EQ(dedup_key("caf\xC3\xA9"), dedup_key("cafe\xCC\x81"));
  EXPECT_NE(dedup_key("ab"), dedup_key("a b"));
  EXPECT_NE(dedup_key("a"), dedup_key("A"));
}

TEST(Clean, ReportsAddUp) {
  Report sum = Cleaned{"one two"}.report;
  sum += Cleaned{""}.report;
  EXPECT_EQ(sum[Report::documents_in], 2);
  EXPECT_EQ(sum[Report::documents_kept], 1);
  EXPECT_NE(sum.describe().find("dropped_empty         1"), std::string::npos);
}

TEST(Clean, NamesEveryProblemOfAConfig) {
  std::vector<std::string> problems;
  validate(
      CleanConfig{.normalization = "nfx", .min_words = 10, .max_words = 5, .max_control_ratio = 2},
      problems);
  EXPECT_EQ(problems.size(), 3U);
  EXPECT_THROW(Cleaner({.min_words = -1}), InputError);
}

}  // namespace
}  // namespace shoal::text
