#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "shoal/text/utf8.hpp"

namespace shoal::text {

/// What the rules of this layer need to know about a character, as bits.
enum CharBits : std::uint8_t {
  kLetter = 1,        ///< \p{L}
  kNumber = 2,        ///< \p{N}
  kSpace = 4,         ///< \s: White_Space
  kNewline = 8,       ///< CR or LF (also kSpace)
  kMark = 16,         ///< \p{M}
  kControl = 32,      ///< Cc without white space
  kPrivate = 64,      ///< Co
  kUnassigned = 128,  ///< Cn
};

/// Classes of all code points: one byte each below 0x20000, a function above. Built once from ICU.
class CharClasses {
 public:
  static const CharClasses& instance();
  [[nodiscard]] std::uint8_t operator[](char32_t c) const {
    return c < kTableSize ? table_[c] : classify(c);
  }

 private:
  static constexpr char32_t kTableSize = 0x20000;
  CharClasses();
  static std::uint8_t classify(char32_t c);
  std::array<std::uint8_t, kTableSize> table_;
};

}  // namespace shoal::text
