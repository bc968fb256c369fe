#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace shoal::text {

/// The spelling of bytes in tokenizer.json (GPT-2): printable Latin-1 stands for itself, the other
/// 68 bytes for U+0100 and up, so that a token is a visible string without spaces.
class ByteAlphabet {
 public:
  static const ByteAlphabet& instance();
  [[nodiscard]] char32_t spelling(unsigned char byte) const { return spelling_[byte]; }
  [[nodiscard]] std::string spell(std::string_view bytes) const;
  /// Bytes of a spelled token; none when a character is not in the alphabet.
  [[nodiscard]] std::optional<std::string> unspell(std::string_view token) const;

 private:
  ByteAlphabet();
  static constexpr char32_t kLimit = 0x100 + 68;
  std::array<char32_t, 256> spelling_;
  std::array<int, kLimit> byte_;  ///< -1: not in the alphabet
};

}  // namespace shoal::text
