#include "text/byte_alphabet.hpp"

#include "shoal/text/utf8.hpp"

namespace shoal::text {

ByteAlphabet::ByteAlphabet() {
  byte_.fill(-1);
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    spelling_[b] = printable ? static_cast<char32_t>(b) : next++;
    byte_[spelling_[b]] = b;
  }
}

const ByteAlphabet& ByteAlphabet::instance() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

std::string ByteAlphabet::spell(std::string_view bytes) const {
  std::string out;
  for (const char b : bytes) append_utf8(spelling_[static_cast<unsigned char>(b)], out);
  return out;
}

std::optional<std::string> ByteAlphabet::unspell(std::string_view token) const {
  std::string out;
  while (!token.empty()) {
    const Decoded d = decode_utf8(token);
    if (!d.valid || d.code_point >= kLimit || byte_[d.code_point] < 0) return std::nullopt;
    out.push_back(static_cast<char>(byte_[d.code_point]));
    token.remove_prefix(static_cast<std::size_t>(d.length));
  }
  return out;
}

}  // namespace shoal::text
