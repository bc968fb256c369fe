#include <unicode/uchar.h>
#include <unicode/uscript.h>

#include <array>
#include <string_view>

#include "shoal/text/clean.hpp"
#include "shoal/text/utf8.hpp"
#include "text/char_class.hpp"

namespace shoal::text {
namespace {

/// Scripts whose letters do not stand beside Latin ones inside a word. Chinese, Japanese and Korean
/// text mixes with Latin freely and is not here.
enum class Script { none, latin, greek, cyrillic };

Script script_of(char32_t c) {
  if (c < 0x80) return (c | 0x20U) >= 'a' && (c | 0x20U) <= 'z' ? Script::latin : Script::none;
  UErrorCode code = U_ZERO_ERROR;
  switch (uscript_getScript(static_cast<UChar32>(c), &code)) {
    case USCRIPT_LATIN:
      return Script::latin;
    case USCRIPT_GREEK:
      return Script::greek;
    case USCRIPT_CYRILLIC:
      return Script::cyrillic;
    default:
      return Script::none;
  }
}

/// Two characters that UTF-8 read as Windows-1252, 1251, Mac Roman or GBK leaves behind.
bool mojibake_pair(char32_t a, char32_t b) {
  const bool latin1_tail = b >= 0x80 && b <= 0xBF;
  if ((a == 0xC2 || a == 0xC3 || a == 0x102) && latin1_tail) return true;  // Â Ã Ă
  if (a == 0xE2 && b == 0x20AC) return true;      // "â€": quotes and dashes
  if (a == 0xF0 && b == 0x178) return true;       // "ðŸ": emoji
  if (a == 0x432 && b == 0x402) return true;      // "вЂ"
  if (a == 0x221A && b == 0xB1) return true;      // "√±"
  if (a == 0x951F && b == 0x65A4) return true;    // "锟斤": U+FFFD twice, read as GBK
  return a == b && (a == 0x70EB || a == 0x5C6F);  // "烫烫", "屯屯": uninitialised memory
}

/// Marks that follow symbols in ordinary text: variation selectors, enclosing and symbol marks.
bool free_mark(char32_t c) {
  return (c >= 0xFE00 && c <= 0xFE0F) || (c >= 0x20D0 && c <= 0x20FF) || c >= 0xE0100;
}

bool mixes_scripts(char32_t a, char32_t b) {
  const Script first = script_of(a);
  const Script second = script_of(b);
  return first != Script::none && second != Script::none && first != second;
}

/// Whether `c` after `previous`, one of them beyond ASCII, is a sign of garbled text; up to two.
std::int64_t signs_of(char32_t previous, char32_t c, const CharClasses& classes) {
  const std::uint8_t bits = classes[c];
  const bool odd_mark = (bits & kMark) != 0 && !free_mark(c) &&
                        (classes[previous] & (kLetter | kMark | kNumber | kSpace)) == 0;
  const bool c1_control = c >= 0x80 && (bits & kControl) != 0;
  const bool odd = odd_mark || c1_control || (bits & kUnassigned) != 0;
  const bool letters = (bits & classes[previous] & kLetter) != 0;
  const bool pair = mojibake_pair(previous, c) || (letters && mixes_scripts(previous, c));
  return (odd ? 1 : 0) + (pair ? 1 : 0);
}

}  // namespace

std::int64_t garbled_score(std::string_view utf8) {
  const CharClasses& classes = CharClasses::instance();
  std::int64_t signs = 0;
  char32_t previous = ' ';
  while (!utf8.empty()) {
    const auto ascii = static_cast<std::size_t>(ascii_prefix(utf8));
    if (ascii > 0) {
      if (previous >= 0x80) signs += signs_of(previous, static_cast<char32_t>(utf8[0]), classes);
      previous = static_cast<char32_t>(utf8[ascii - 1]);
      utf8.remove_prefix(ascii);
      continue;
    }
    const Decoded d = decode_utf8(utf8);
    signs += signs_of(previous, d.code_point, classes);
    previous = d.code_point;
    utf8.remove_prefix(static_cast<std::size_t>(d.length));
  }
  return 2 * signs;
}

}  // namespace shoal::text
