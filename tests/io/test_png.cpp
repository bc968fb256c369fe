#include "shoal/io/png.hpp"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>
#include <vector>

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"
#include "support/temp_folder.hpp"

namespace shoal::io {
namespace {

std::uint32_t u32_at(const std::string& text, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    value = value << 8 | static_cast<std::uint8_t>(text[at + i]);
  }
  return value;
}

TEST(Png, HoldsThePixelsInCheckedChunks) {
  const test::TempFolder folder;
  std::vector<std::uint8_t> rgb;
  for (int i = 0; i < 3 * 5 * 4; ++i) rgb.push_back(static_cast<std::uint8_t>(i * 4));
  write_png(folder / "a.png", {.width = 5, .height = 4, .rgb = rgb});
  const std::string file = read_file(folder / "a.png", 1 << 20);
  EXPECT_EQ(file.substr(0, 8), "\x89PNG\r\n\x1A\n");
  std::string names, data;
  for (std::size_t at = 8; at < file.size();) {
    const std::size_t size = u32_at(file, at);
    const auto* body = reinterpret_cast<const Bytef*>(file.data() + at + 4);
    EXPECT_EQ(u32_at(file, at + 8 + size), crc32(0L, body, static_cast<uInt>(size + 4)));
    names += file.substr(at + 4, 4) + " ";
    if (file.substr(at + 4, 4) == "IDAT") data = file.substr(at + 8, size);
    if (file.substr(at + 4, 4) == "IHDR") {
      EXPECT_EQ(u32_at(file, at + 8), 5U);
      EXPECT_EQ(u32_at(file, at + 12), 4U);
    }
    at += size + 12;
  }
  EXPECT_EQ(names, "IHDR IDAT IEND ");
  std::vector<std::uint8_t> rows(4 * (1 + 3 * 5));
  uLongf bytes = rows.size();
  ASSERT_EQ(
      uncompress(rows.data(), &bytes, reinterpret_cast<const Bytef*>(data.data()), data.size()),
      Z_OK);
  ASSERT_EQ(bytes, rows.size());
  for (std::size_t y = 0; y < 4; ++y) {
    EXPECT_EQ(rows[y * 16], 0) << "no filter";
    for (std::size_t x = 0; x < 15; ++x) EXPECT_EQ(rows[y * 16 + 1 + x], rgb[y * 15 + x]);
  }
}

TEST(Png, RefusesAnImageOfAnotherSize) {
  const test::TempFolder folder;
  const std::vector<std::uint8_t> rgb(3 * 5 * 4);
  EXPECT_THROW(write_png(folder / "a.png", {.width = 5, .height = 5, .rgb = rgb}), Error);
  EXPECT_THROW(write_png(folder / "a.png", {.width = 0, .height = 5, .rgb = {}}), Error);
}

}  // namespace
}  // namespace shoal::io
