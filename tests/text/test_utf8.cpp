#include <gtest/gtest.h>

#include "shoal/text/utf8.hpp"

namespace shoal::text {
namespace {

std::string repaired(std::string_view text) {
  std::string out;
  repair_utf8(text, out);
  return out;
}

TEST(Utf8, DecodesTheEdgesOfEveryLength) {
  for (const char32_t c : {U'\x7F', U'\x80', U'\x7FF', U'\x800', U'\xD7FF', U'\xE000', U'\xFFFF',
                           U'\x10000', U'\x10FFFF'}) {
    std::string bytes;
    append_utf8(c, bytes);
    const Decoded d = decode_utf8(bytes + "x");
    EXPECT_TRUE(d.valid);
    EXPECT_EQ(d.code_point, c);
    EXPECT_EQ(d.length, static_cast<int>(bytes.size()));
    EXPECT_EQ(valid_utf8_prefix(bytes), static_cast<std::int64_t>(bytes.size()));
  }
}

// Table 3-8 of the Unicode standard: how many U+FFFD stand for a broken sequence.
TEST(Utf8, ReplacesMaximalSubparts) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(repaired("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(repaired("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(repaired("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(repaired("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8, CountsReplacements) {
  std::string out;
  EXPECT_EQ(repair_utf8("ok", out), 0);
  EXPECT_EQ(repair_utf8("a\xFF\xFE z\xE2\x82", out), 3);
  EXPECT_EQ(valid_utf8_prefix("abcdefgh\xC3\xA9\xFF"), 10);
}

TEST(Utf8, HoldsBackAnIncompleteLastCharacter) {
  EXPECT_EQ(complete_utf8_prefix("abc"), 3);
  EXPECT_EQ(complete_utf8_prefix("ab\xE2\x82"), 2);
  EXPECT_EQ(complete_utf8_prefix("ab\xF0\x9F\x98"), 2);
  EXPECT_EQ(complete_utf8_prefix("ab\xE2\x82\xAC"), 5);
  EXPECT_EQ(complete_utf8_prefix("ab\xE2\x28"), 4);  // broken, not incomplete: nothing to wait for
  EXPECT_EQ(complete_utf8_prefix(""), 0);
}

}  // namespace
}  // namespace shoal::text
