#include <string>
#include <string_view>

#include "shoal/base/error.hpp"
#include "text/pretokenize_regex.hpp"

namespace shoal::text {
namespace {

// White_Space without the Mongolian vowel separator, which PCRE2 counts as space.
constexpr std::string_view kSpaceSet =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
// PCRE2 leaves marks and connectors other than the underscore out of \w.
constexpr std::string_view kWordSet = R"(\p{L}\p{M}\p{N}\p{Pc})";

[[noreturn]] void refuse(std::string_view what, std::string_view pattern) {
  throw InputError{"expression " + std::string{pattern} + ": " + std::string{what} +
                   " is not supported (it means something else in this engine)"};
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_{pattern} {}

  std::string run() {
    for (i_ = 0; i_ < pattern_.size(); ++i_) {
      const char c = pattern_[i_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else {
        plain_character(c);
      }
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] char next() const { return i_ + 1 < pattern_.size() ? pattern_[i_ + 1] : '\0'; }

  void escape() {
    const char c = next();
    ++i_;
    switch (c) {
      case 's':
        set(kSpaceSet, false);
        break;
      case 'S':
        set(kSpaceSet, true);
        break;
      case 'w':
        set(kWordSet, false);
        break;
      case 'W':
        set(kWordSet, true);
        break;
      case 'b':
      case 'B':
      case 'h':
      case 'H':
      case 'R':
      case 'X':
      case 'K':
      case 'G':
      case 'Z':
      case 'k':
      case 'g':
      case 'y':
      case 'Y':
      case 'N':
      case 'O':
      case 'C':
      case 'M':
        refuse(std::string{"\\"} + c, pattern_);
      default:
        out_ += {'\\', c};
    }
  }

  void set(std::string_view characters, bool negate) {
    if (in_class_ && negate) refuse("\\S or \\W inside [...]", pattern_);
    if (in_class_) {
      out_ += characters;
    } else {
      out_ += (negate ? "[^" : "[") + std::string{characters} + "]";
    }
  }

  void class_character(char c) {
    if (c == '[') refuse("a set inside a set", pattern_);
    if (c == '&' && next() == '&') refuse("&& (intersection)", pattern_);
    if (c == ']') in_class_ = false;
    out_ += c;
  }

  void plain_character(char c) {
    if (c == '}' && next() == '+') refuse("{...}+", pattern_);
    if (c == '(' && next() == '?') group_options();
    out_ += c;
    if (c != '[') return;
    in_class_ = true;
    if (next() == '^') {
      out_ += '^';
      ++i_;
    }
  }

  /// Groups whose letters both engines read alike: (?i: (?: (?= (?! (?> (?<= (?<! only.
  void group_options() const {
    const std::string_view rest = pattern_.substr(i_ + 2);
    for (const std::string_view known : {":", "=", "!", ">", "i:", "i)", "-i:", "<=", "<!"}) {
      if (rest.starts_with(known)) return;
    }
    refuse("group (?" + std::string{rest.substr(0, 3)}, pattern_);
  }

  std::string_view pattern_;
  std::size_t i_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string translate_regex(std::string_view pattern) {
  return Translator{pattern}.run();
}

}  // namespace shoal::text
