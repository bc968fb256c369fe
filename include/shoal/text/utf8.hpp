#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::text {

inline constexpr char32_t kReplacement = 0xFFFD;

/// One step of a walk over bytes that may be broken UTF-8.
struct Decoded {
  char32_t code_point;  ///< kReplacement when `valid` is false
  int length;           ///< bytes consumed, at least 1
  bool valid;
};

/// Code point at the start of a non-empty `text`. A broken sequence consumes its maximal valid
/// prefix (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts"), so that the number
/// of replacements agrees with other strict decoders.
[[nodiscard]] Decoded decode_utf8(std::string_view text);

void append_utf8(char32_t code_point, std::string& out);

/// Bytes below 0x80 at the start of `text`.
[[nodiscard]] std::int64_t ascii_prefix(std::string_view text);

/// Bytes of the longest prefix that is valid UTF-8; equals text.size() for valid text.
[[nodiscard]] std::int64_t valid_utf8_prefix(std::string_view text);

/// Appends `text` to `out` with every broken sequence replaced by U+FFFD; returns how many.
std::int64_t repair_utf8(std::string_view text, std::string& out);

/// Bytes of `text` without a last character that is still incomplete: what a terminal may print of
/// a stream that is being generated token by token.
[[nodiscard]] std::int64_t complete_utf8_prefix(std::string_view text);

}  // namespace shoal::text
