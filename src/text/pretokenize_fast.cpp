// The published split expressions, compiled by hand: one pass, ASCII by table.
#include <array>

#include "shoal/text/pretokenizer.hpp"
#include "text/char_class.hpp"

namespace shoal::text {
namespace {

/// A position in a text that answers "what is here" for ASCII from a small table.
class Scanner {
 public:
  explicit Scanner(std::string_view text)
      : p_{text.data()}, end_{p_ + text.size()}, classes_{CharClasses::instance()} {}

  struct Here {
    std::uint8_t bits;
    std::uint8_t length;
  };
  [[nodiscard]] Here at(const char* p) const {
    const auto byte = static_cast<unsigned char>(*p);
    if (byte < 0x80) [[likely]]
      return {classes_[byte], 1};
    const Decoded d = decode_utf8({p, static_cast<std::size_t>(end_ - p)});
    // A broken byte is a symbol of its own; classes_ of U+FFFD says the same.
    return {classes_[d.code_point], static_cast<std::uint8_t>(d.length)};
  }
  /// End of the run from `p` of characters that have (or, with `negate`, lack) one of `bits`.
  template <bool negate = false>
  [[nodiscard]] const char* run(const char* p, std::uint8_t bits) const {
    while (p < end_) {
      const Here here = at(p);
      if (((here.bits & bits) != 0) == negate) break;
      p += here.length;
    }
    return p;
  }
  [[nodiscard]] const char* end() const { return end_; }
  [[nodiscard]] const char* begin() const { return p_; }

 private:
  const char* p_;
  const char* end_;
  const CharClasses& classes_;
};

constexpr std::uint8_t kNotSymbol = kSpace | kLetter | kNumber;

/// Bytes of a contraction ('s 't 're 've 'm 'll 'd) at an apostrophe; 0 when there is none.
template <bool ignore_case>
int contraction(const char* p, const char* end) {
  const auto lower = [&](std::int64_t i) -> char {
    if (end - p <= i) return 0;
    const char c = p[i];
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  const char a = lower(1);
  const char b = lower(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  // U+017F, the long s, is an s to a case-insensitive expression.
  if (ignore_case && a == '\xC5' && b == '\xBF') return 3;
  return 0;
}

/// `\s+(?!\S)|\s+` on a run of white space from `p`: all of it at the end of the text, otherwise
/// all but its last character, which may go with the next piece; a single one stands alone.
const char* white_space(const Scanner& s, const char* p) {
  const char* last = p;
  const char* q = p;
  while (q < s.end()) {
    const Scanner::Here here = s.at(q);
    if ((here.bits & kSpace) == 0) break;
    last = q;
    q += here.length;
  }
  return q == s.end() || last == p ? q : last;
}

const char* gpt2_piece(const Scanner& s, const char* p) {
  if (*p == '\'') {
    if (const int n = contraction<false>(p, s.end()); n > 0) return p + n;
  }
  const char* start = *p == ' ' && p + 1 < s.end() ? p + 1 : p;
  const Scanner::Here here = s.at(start);
  if ((here.bits & kSpace) != 0) return white_space(s, p);
  if ((here.bits & kLetter) != 0) return s.run(start, kLetter);
  if ((here.bits & kNumber) != 0) return s.run(start, kNumber);
  return s.run<true>(start, kNotSymbol);
}

const char* llama3_space(const Scanner& s, const char* p) {
  const char* after_newline = nullptr;
  const char* q = p;
  while (q < s.end()) {
    const Scanner::Here here = s.at(q);
    if ((here.bits & kSpace) == 0) break;
    q += here.length;
    if ((here.bits & kNewline) != 0) after_newline = q;
  }
  return after_newline != nullptr ? after_newline : white_space(s, p);
}

template <int max_digits>
const char* llama3_piece(const Scanner& s, const char* p) {
  if (*p == '\'') {
    if (const int n = contraction<true>(p, s.end()); n > 0) return p + n;
  }
  const Scanner::Here here = s.at(p);
  const char* next = p + here.length;
  if ((here.bits & kLetter) != 0) return s.run(next, kLetter);
  if ((here.bits & kNumber) != 0) {
    for (int digits = 1; digits < max_digits && next < s.end(); ++digits) {
      const Scanner::Here more = s.at(next);
      if ((more.bits & kNumber) == 0) break;
      next += more.length;
    }
    return next;
  }
  const std::uint8_t after = next < s.end() ? s.at(next).bits : std::uint8_t{kSpace};
  if ((here.bits & kNewline) == 0 && (after & kLetter) != 0) return s.run(next, kLetter);
  const bool symbol = (here.bits & kSpace) == 0;
  if (symbol || (*p == ' ' && (after & kNotSymbol) == 0)) {
    const char* q = s.run<true>(next, kNotSymbol);
    while (q < s.end() && (*q == '\n' || *q == '\r')) ++q;
    return q;
  }
  return llama3_space(s, p);
}

template <const char* (*piece)(const Scanner&, const char*)>
class FastSplit final : public PreTokenizer {
 public:
  void split(std::string_view text, std::vector<std::string_view>& pieces) const override {
    const Scanner scanner{text};
    const char* p = scanner.begin();
    while (p < scanner.end()) {
      const char* q = piece(scanner, p);
      pieces.emplace_back(p, static_cast<std::size_t>(q - p));
      p = q;
    }
  }
};

}  // namespace

std::string_view split_rule_regex(SplitRule rule) {
  switch (rule) {
    case SplitRule::gpt2:
      return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    case SplitRule::llama3:
      return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    case SplitRule::qwen2:
      return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  }
  return {};
}

std::unique_ptr<PreTokenizer> make_pretokenizer(SplitRule rule) {
  switch (rule) {
    case SplitRule::gpt2:
      return std::make_unique<FastSplit<gpt2_piece>>();
    case SplitRule::llama3:
      return std::make_unique<FastSplit<llama3_piece<3>>>();
    case SplitRule::qwen2:
      return std::make_unique<FastSplit<llama3_piece<1>>>();
  }
  return nullptr;
}

}  // namespace shoal::text
