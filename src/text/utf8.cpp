#include "shoal/text/utf8.hpp"

#include <cstring>

namespace shoal::text {
namespace {

/// Allowed range of the second byte for a lead byte (Unicode 15, table 3-7), and the length.
struct Lead {
  int length;
  unsigned char low, high;
};

Lead lead_of(unsigned char b) {
  if (b >= 0xC2 && b <= 0xDF) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b >= 0xE1 && b <= 0xEF) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b >= 0xF1 && b <= 0xF3) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

std::int64_t ascii_prefix(std::string_view text) {
  const auto n = static_cast<std::int64_t>(text.size());
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if ((word & 0x8080808080808080U) != 0) break;
  }
  while (i < n && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i;
}

Decoded decode_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1, true};
  const Lead lead = lead_of(first);
  if (lead.length == 0 || text.size() < 2 || byte(1) < lead.low || byte(1) > lead.high) {
    return {kReplacement, 1, false};
  }
  char32_t code = ((first & (0xFFU >> (lead.length + 1))) << 6) | (byte(1) & 0x3FU);
  for (int i = 2; i < lead.length; ++i) {
    if (text.size() <= static_cast<std::size_t>(i) || (byte(i) & 0xC0U) != 0x80) {
      return {kReplacement, i, false};
    }
    code = (code << 6) | (byte(i) & 0x3FU);
  }
  return {code, lead.length, true};
}

void append_utf8(char32_t c, std::string& out) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::int64_t valid_utf8_prefix(std::string_view text) {
  const auto n = static_cast<std::int64_t>(text.size());
  std::int64_t i = 0;
  while (i < n) {
    i += ascii_prefix(text.substr(static_cast<std::size_t>(i)));
    // A page of Chinese has no ASCII to skip: stay in the decoder until it ends.
    while (i < n && static_cast<unsigned char>(text[i]) >= 0x80) {
      const Decoded d = decode_utf8(text.substr(i));
      if (!d.valid) return i;
      i += d.length;
    }
  }
  return n;
}

std::int64_t repair_utf8(std::string_view text, std::string& out) {
  std::int64_t replaced = 0;
  while (!text.empty()) {
    const auto good = static_cast<std::size_t>(valid_utf8_prefix(text));
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) break;
    append_utf8(kReplacement, out);
    ++replaced;
    text.remove_prefix(static_cast<std::size_t>(decode_utf8(text).length));
  }
  return replaced;
}

std::int64_t complete_utf8_prefix(std::string_view text) {
  const auto n = static_cast<std::int64_t>(text.size());
  for (std::int64_t i = n - 1; i >= 0 && i >= n - 3; --i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x80) return n;
    if (byte < 0xC0) continue;
    const Decoded d = decode_utf8(text.substr(i));
    // Incomplete means: what is there is right so far, and only the end of the text cuts it off.
    return !d.valid && lead_of(byte).length > n - i && d.length == n - i ? i : n;
  }
  return n;
}

}  // namespace shoal::text
