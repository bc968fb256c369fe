#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "shoal/base/error.hpp"
#include "shoal/data/source.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::data {
namespace {

using Counter = SourceReport::Counter;
using test::TempFolder;
using test::throws_with;

void write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream{path, std::ios::binary} << text;
}

void write_gzip(const std::filesystem::path& path, const std::string& text) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
}

struct Result {
  std::vector<std::string> documents;
  SourceReport report;
};

Result read_all(const SourceConfig& config, std::int64_t shard_bytes = 0) {
  const SourcePlan plan = plan_source(config, shard_bytes);
  Result result{.documents = {}, .report = plan.report};
  for (const SourcePart& part : plan.parts) {
    read_documents(config, part, result.report,
                   [&](std::string_view d) { result.documents.emplace_back(d); });
  }
  return result;
}

using Texts = std::vector<std::string>;

TEST(Source, FolderIsReadInOrderWithPackedFiles) {
  const TempFolder folder;
  write(folder / "b.txt", "second");
  write(folder / "c/d.md", "fourth");
  write(folder / "a.txt", "first");
  write_gzip(folder / "b2.txt.gz", "third");
  const Result r = read_all({.inputs = {folder.path().string()}});
  EXPECT_EQ(r.documents, (Texts{"first", "second", "third", "fourth"}));
  EXPECT_EQ(r.report[Counter::files_read], 4);
}

TEST(Source, FolderSkipsWhatIsNoTextAndCountsIt) {
  const TempFolder folder;
  write(folder / "good.txt", "text");
  write(folder / "empty.txt", "");
  write(folder / "program", std::string("\x7F"
                                        "ELF\0\0\0",
                                        7));
  write(folder / "damaged.gz",
        "\x1F\x8B"
        "not gzip at all");
  std::filesystem::create_symlink(folder / "good.txt", folder / "link.txt");
  const Result r = read_all({.inputs = {folder.path().string()}});
  EXPECT_EQ(r.documents, Texts{"text"});
  EXPECT_EQ(r.report[Counter::files_empty], 1);
  EXPECT_EQ(r.report[Counter::files_binary], 1);
  EXPECT_EQ(r.report[Counter::files_unreadable], 1);
  EXPECT_EQ(r.report[Counter::links_skipped], 1);
}

TEST(Source, EveryBadInputIsNamedAtOnce) {
  const TempFolder folder;
  write(folder / "empty.txt", "");
  write(folder / "binary.txt", std::string("a\0b", 3));
  std::filesystem::create_directories(folder / "nothing");
  const SourceConfig config{.inputs = {folder / "missing.txt", folder / "empty.txt",
                                       folder / "binary.txt", folder / "nothing"}};
  const auto run = [&] { (void)read_all(config); };
  EXPECT_TRUE(throws_with<InputError>(run, "missing.txt: does not exist"));
  EXPECT_TRUE(throws_with<InputError>(run, "empty.txt: is empty"));
  EXPECT_TRUE(throws_with<InputError>(run, "binary.txt: is binary"));
  EXPECT_TRUE(throws_with<InputError>(run, "nothing: has no files"));
}

TEST(Source, DamagedNamedFileEndsTheRun) {
  const TempFolder folder;
  write(folder / "x.jsonl.gz",
        "\x1F\x8B"
        "not gzip at all");
  EXPECT_THROW((void)read_all({.inputs = {folder / "x.jsonl.gz"}}), InputError);
}

TEST(Source, JsonLinesGiveTheNamedField) {
  const TempFolder folder;
  write(folder / "x.jsonl",
        "{\"text\": \"one\\n\\u00e9\", \"id\": 1}\n\n{\"text\": 5}\r\n{\"body\": \"b\"}\nnonsense\n"
        "{\"text\": \"two\"}");
  const Result r = read_all({.inputs = {folder / "x.jsonl"}});
  EXPECT_EQ(r.documents, (Texts{"one\n\xC3\xA9", "two"}));
  EXPECT_EQ(r.report[Counter::lines_malformed], 1);
  EXPECT_EQ(r.report[Counter::lines_without_text], 2);
  EXPECT_EQ((read_all({.inputs = {folder / "x.jsonl"}, .text_field = "body"}).documents),
            Texts{"b"});
}

TEST(Source, TextIsCutAtBlankLinesOrSeparators) {
  const TempFolder folder;
  write(folder / "x.txt", "\n\na\nb\n\n \r\nc\n<|endoftext|>\nd");
  EXPECT_EQ((read_all({.inputs = {folder / "x.txt"}, .documents = "paragraph"}).documents),
            (Texts{"a\nb\n", "c\n<|endoftext|>\nd\n"}));
  EXPECT_EQ((read_all({.inputs = {folder / "x.txt"}, .documents = "separator"}).documents),
            (Texts{"\n\na\nb\n\n \nc\n", "d\n"}));
}

// Wherever the ranges of a large file begin, each document is read exactly once.
TEST(Source, RangesOfAFileNeitherLoseNorRepeat) {
  const TempFolder folder;
  std::string text;
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    text += "p" + std::to_string(i) + std::string(static_cast<std::size_t>(i % 7), 'x') + "\n";
    if (i % 3 == 0) text += i % 2 == 0 ? "\n" : "\n \n\n";
    lines += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  }
  write(folder / "x.txt", text);
  write(folder / "x.jsonl", lines);
  for (const char* name : {"x.txt", "x.jsonl"}) {
    const SourceConfig config{.inputs = {folder / name}, .documents = "paragraph"};
    const Texts whole = read_all(config, 1 << 20).documents;
    ASSERT_GT(whole.size(), 10U);
    for (std::int64_t bytes = 1; bytes < 200; ++bytes) {
      ASSERT_EQ(read_all(config, bytes).documents, whole) << name << " in ranges of " << bytes;
    }
  }
}

TEST(Source, LongDocumentsAreCutAtLineEnds) {
  const TempFolder folder;
  std::string text;
  while (text.size() < 2'500'000) text += "a line of text that is not very long\n";
  write(folder / "x.txt", text);
  const Result r = read_all({.inputs = {folder / "x.txt"}, .max_document_mb = 1});
  ASSERT_EQ(r.documents.size(), 3U);
  EXPECT_EQ(r.documents[0] + r.documents[1] + r.documents[2], text);
  EXPECT_TRUE(r.documents[0].ends_with('\n'));
  EXPECT_EQ(r.report[Counter::documents_cut], 2);
}

TEST(Source, OverlongLineIsAnErrorThatSaysWhatToDo) {
  const TempFolder folder;
  write(folder / "x.jsonl", "{\"text\": \"" + std::string(3 << 20, 'x') + "\"}");
  const auto run = [&] { (void)read_all({.inputs = {folder / "x.jsonl"}, .max_document_mb = 1}); };
  EXPECT_TRUE(throws_with<InputError>(run, "raise max_document_mb"));
}

TEST(Source, PlanSurvivesTheWay) {
  const TempFolder folder;
  write(folder / "a b\nc.txt", "one");
  write(folder / "d.jsonl", std::string(100, '\n'));
  const SourcePlan plan = plan_source({.inputs = {folder.path().string()}}, 30);
  const SourcePlan copy = plan_from_text(to_text(plan));
  EXPECT_EQ(to_text(copy), to_text(plan));
  EXPECT_EQ(copy.parts[0].path, (folder / "a b\nc.txt").string());
  EXPECT_EQ(copy.parts.size(), 5U);
  EXPECT_EQ(copy.shard_begin.back(), 5);
}

TEST(Source, NamesEveryProblemOfAConfig) {
  std::vector<std::string> problems;
  validate(SourceConfig{.format = "xml",
                        .text_field = "",
                        .documents = "separator",
                        .separator = "a\nb",
                        .max_document_mb = 0},
           problems);
  EXPECT_EQ(problems.size(), 5U);
}

}  // namespace
}  // namespace shoal::data
