#include "text/char_class.hpp"

#include <unicode/uchar.h>

#include <algorithm>

namespace shoal::text {
namespace {

struct Range {
  char32_t first, last;
  std::uint8_t bits;
};

// Letters, numbers and marks that Unicode 15.1 and 16.0 added. Hugging Face's expressions know them
// and older ICU releases (72 in Debian 12) do not: without this table ids would depend on the ICU.
constexpr Range kNewer[] = {
    {0x897, 0x897, kMark},       {0x1C89, 0x1C8A, kLetter},   {0xA7CB, 0xA7CD, kLetter},
    {0xA7DA, 0xA7DC, kLetter},   {0x105C0, 0x105F3, kLetter}, {0x10D40, 0x10D49, kNumber},
    {0x10D4A, 0x10D65, kLetter}, {0x10D69, 0x10D6D, kMark},   {0x10D6F, 0x10D85, kLetter},
    {0x10EC2, 0x10EC4, kLetter}, {0x10EFC, 0x10EFC, kMark},   {0x11380, 0x11389, kLetter},
    {0x1138B, 0x1138B, kLetter}, {0x1138E, 0x1138E, kLetter}, {0x11390, 0x113B5, kLetter},
    {0x113B7, 0x113B7, kLetter}, {0x113B8, 0x113C0, kMark},   {0x113C2, 0x113C2, kMark},
    {0x113C5, 0x113C5, kMark},   {0x113C7, 0x113CA, kMark},   {0x113CC, 0x113D0, kMark},
    {0x113D1, 0x113D1, kLetter}, {0x113D2, 0x113D2, kMark},   {0x113D3, 0x113D3, kLetter},
    {0x113E1, 0x113E2, kMark},   {0x116D0, 0x116E3, kNumber}, {0x11BC0, 0x11BE0, kLetter},
    {0x11BF0, 0x11BF9, kNumber}, {0x11F5A, 0x11F5A, kMark},   {0x13460, 0x143FA, kLetter},
    {0x16100, 0x1611D, kLetter}, {0x1611E, 0x1612F, kMark},   {0x16130, 0x16139, kNumber},
    {0x16D40, 0x16D6C, kLetter}, {0x16D70, 0x16D79, kNumber}, {0x18CFF, 0x18CFF, kLetter},
    {0x1CCF0, 0x1CCF9, kNumber}, {0x1E5D0, 0x1E5ED, kLetter}, {0x1E5EE, 0x1E5EF, kMark},
    {0x1E5F0, 0x1E5F0, kLetter}, {0x1E5F1, 0x1E5FA, kNumber}, {0x2EBF0, 0x2EE5D, kLetter},
};

std::uint8_t newer_class(char32_t c) {
  const auto* after = std::upper_bound(std::begin(kNewer), std::end(kNewer), c,
                                       [](char32_t x, const Range& r) { return x < r.first; });
  if (after == std::begin(kNewer)) return kUnassigned;
  const Range& range = *(after - 1);
  return c <= range.last ? range.bits : std::uint8_t{kUnassigned};
}

}  // namespace

CharClasses::CharClasses() {
  for (char32_t c = 0; c < kTableSize; ++c) table_[c] = classify(c);
}

const CharClasses& CharClasses::instance() {
  static const CharClasses classes;
  return classes;
}

std::uint8_t CharClasses::classify(char32_t c) {
  const auto code = static_cast<UChar32>(c);
  if (u_isUWhiteSpace(code) != 0) return c == '\n' || c == '\r' ? kSpace | kNewline : kSpace;
  const std::uint32_t mask = U_GET_GC_MASK(code);
  if ((mask & U_GC_L_MASK) != 0) return kLetter;
  if ((mask & U_GC_N_MASK) != 0) return kNumber;
  if ((mask & U_GC_M_MASK) != 0) return kMark;
  if ((mask & U_GC_CC_MASK) != 0) return kControl;
  if ((mask & U_GC_CO_MASK) != 0) return kPrivate;
  if ((mask & U_GC_CN_MASK) != 0) return newer_class(c);
  return 0;
}

}  // namespace shoal::text
