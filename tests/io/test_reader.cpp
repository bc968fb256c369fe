#include "shoal/io/reader.hpp"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <fstream>

#include "shoal/base/error.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::io {
namespace {

[[nodiscard]] std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(packed.size() - stream.avail_out);
  deflateEnd(&stream);
  return packed;
}

[[nodiscard]] std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

[[nodiscard]] std::string long_text() {
  std::string text;
  for (int i = 0; i < 60000; ++i) text += "line " + std::to_string(i * 7919) + "\n";
  return text;
}

void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream{path, std::ios::binary} << bytes;
}

[[nodiscard]] std::string read_all(const std::filesystem::path& path) {
  const auto reader = open_reader(path);
  std::string all;
  std::vector<std::byte> block(10007);
  while (const std::size_t count = reader->read(block)) {
    all.append(reinterpret_cast<const char*>(block.data()), count);
  }
  return all;
}

TEST(Reader, UnpacksEveryFormatByItsContent) {
  const test::TempFolder folder;
  const std::string text = long_text();
  write(folder / "a.txt", text);
  write(folder / "b.txt", gzip(text));
  write(folder / "c.txt", zstd(text));
  for (const char* name : {"a.txt", "b.txt", "c.txt"}) EXPECT_EQ(read_all(folder / name), text);
}

TEST(Reader, JoinsMembersAndFrames) {
  const test::TempFolder folder;
  write(folder / "two.gz", gzip("first\n") + gzip("") + gzip("second\n"));
  write(folder / "two.zst", zstd("first\n") + zstd("second\n"));
  EXPECT_EQ(read_all(folder / "two.gz"), "first\nsecond\n");
  EXPECT_EQ(read_all(folder / "two.zst"), "first\nsecond\n");
}

TEST(Reader, RefusesDamagedAndTruncatedData) {
  const test::TempFolder folder;
  for (std::string packed : {gzip(long_text()), zstd(long_text())}) {
    write(folder / "cut", packed.substr(0, packed.size() - 9));
    EXPECT_TRUE(
        test::throws_with<InputError>([&] { (void)read_all(folder / "cut"); }, "too early"));
    packed[packed.size() / 2] ^= 0x55;
    packed[packed.size() / 2 + 1] ^= 0x55;
    write(folder / "bad", packed);
    EXPECT_TRUE(
        test::throws_with<InputError>([&] { (void)read_all(folder / "bad"); }, "/bad: damaged"));
  }
}

TEST(Reader, NamesAMissingFileAndAFolder) {
  const test::TempFolder folder;
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)open_reader(folder / "none"); },
                                            "none: No such file"));
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)open_reader(folder.path()); }, "folder"));
}

TEST(LineReader, SplitsAtEveryKindOfEnd) {
  const test::TempFolder folder;
  write(folder / "x", "one\r\n\ntwo\rthree\nlast");
  LineReader lines{open_reader(folder / "x"), 100};
  std::vector<std::string> all;
  for (std::string line; lines.next(line);) all.push_back(line);
  EXPECT_EQ(all, (std::vector<std::string>{"one", "", "two\rthree", "last"}));
  EXPECT_EQ(lines.line_number(), 4);
}

TEST(LineReader, CrossesBlocksAndLimitsLength) {
  const test::TempFolder folder;
  const std::string wide(600000, 'w');
  write(folder / "x", "a\n" + wide + "\nb\n");
  LineReader lines{open_reader(folder / "x"), 600000};
  std::string line;
  ASSERT_TRUE(lines.next(line));
  ASSERT_TRUE(lines.next(line));
  EXPECT_EQ(line, wide);
  LineReader narrow{open_reader(folder / "x"), 599999};
  ASSERT_TRUE(narrow.next(line));
  EXPECT_TRUE(test::throws_with<InputError>([&] { (void)narrow.next(line); }, "line 2 is longer"));
}

}  // namespace
}  // namespace shoal::io
