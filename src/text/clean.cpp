#include "shoal/text/clean.hpp"

#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/text/normalize.hpp"
#include "shoal/text/utf8.hpp"
#include "text/char_class.hpp"

namespace shoal::text {
namespace {

using Counter = CleanReport::Counter;

Normalization parse_normalization(std::string_view name) {
  if (name == "nfc") return Normalization::nfc;
  return name == "nfkc" ? Normalization::nfkc : Normalization::none;
}

/// What the rules need to know of a document; one pass.
struct Census {
  std::int64_t characters = 0;
  std::int64_t words = 0;
  std::int64_t replacements = 0;
  std::int64_t controls = 0;
  std::int64_t private_use = 0;
  bool ascii = true;
  bool needs_rewrite = false;  ///< has controls, a carriage return, a form feed or a BOM
};

/// Classes of ASCII for the census, in one load: word character 0, white space 1, white space that
/// is rewritten 2, control 3.
constexpr std::array<std::uint8_t, 128> ascii_kinds() {
  std::array<std::uint8_t, 128> kinds{};
  for (int c = 0; c < 32; ++c) kinds[c] = 3;
  kinds[127] = 3;
  kinds[' '] = kinds['\t'] = kinds['\n'] = 1;
  kinds['\r'] = kinds['\f'] = kinds['\v'] = 2;
  return kinds;
}
constexpr std::array<std::uint8_t, 128> kAsciiKinds = ascii_kinds();

constexpr char32_t kByteOrderMark = 0xFEFF;

Census take_census(std::string_view utf8) {
  Census census;
  const CharClasses& classes = CharClasses::instance();
  const char* p = utf8.data();
  const char* const end = p + utf8.size();
  std::uint8_t after_space = 1;
  while (p < end) {
    const auto byte = static_cast<unsigned char>(*p);
    ++census.characters;
    if (byte < 0x80) [[likely]] {
      const std::uint8_t kind = kAsciiKinds[byte];
      census.words += static_cast<std::int64_t>(after_space & static_cast<std::uint8_t>(kind == 0));
      if (kind >= 2) [[unlikely]] {
        census.needs_rewrite = true;
        if (kind == 3) ++census.controls;
      }
      if (kind != 3) after_space = kind == 0 ? 0 : 1;  // a control neither begins nor ends a word
      ++p;
      continue;
    }
    census.ascii = false;
    const Decoded d = decode_utf8({p, static_cast<std::size_t>(end - p)});
    const std::uint8_t bits = classes[d.code_point];
    p += d.length;
    if ((bits & kControl) != 0 || d.code_point == kByteOrderMark) {
      census.needs_rewrite = true;
      if ((bits & kControl) != 0) ++census.controls;
      continue;
    }
    const bool space = (bits & kSpace) != 0;
    if (!space && after_space != 0) ++census.words;
    after_space = space ? 1 : 0;
    if (d.code_point == kReplacement) ++census.replacements;
    if ((bits & kPrivate) != 0) ++census.private_use;
  }
  return census;
}

/// Drops controls and byte order marks; CR LF, CR, FF and VT become LF. Returns how many went.
std::int64_t strip_controls(std::string_view utf8, std::string& out) {
  const CharClasses& classes = CharClasses::instance();
  std::int64_t removed = 0;
  out.clear();
  out.reserve(utf8.size());
  while (!utf8.empty()) {
    const auto byte = static_cast<unsigned char>(utf8[0]);
    if (byte < 0x80 && kAsciiKinds[byte] <= 1) [[likely]] {
      out.push_back(utf8[0]);
      utf8.remove_prefix(1);
      continue;
    }
    const Decoded d = decode_utf8(utf8);
    const char32_t c = d.code_point;
    if (c == '\r' && utf8.size() > 1 && utf8[1] == '\n') {
      // The LF that follows speaks for both.
    } else if (c == '\r' || c == '\f' || c == '\v') {
      out.push_back('\n');
    } else if ((classes[c] & kControl) != 0 || c == kByteOrderMark) {
      ++removed;
    } else {
      out.append(utf8.substr(0, static_cast<std::size_t>(d.length)));
    }
    utf8.remove_prefix(static_cast<std::size_t>(d.length));
  }
  return removed;
}

bool above(std::int64_t part, std::int64_t whole, double ratio) {
  return static_cast<double>(part) > ratio * static_cast<double>(whole);
}

/// The counter of the first rule that drops the document; documents_kept when none does.
Counter judge(const CleanConfig& config, const Census& census, std::string_view utf8) {
  const std::int64_t n = census.characters;
  if (census.words == 0) return Counter::dropped_empty;
  if (above(census.replacements, n, config.max_replacement_ratio)) {
    return Counter::dropped_replacement;
  }
  if (above(census.controls, n, config.max_control_ratio)) return Counter::dropped_control;
  if (above(census.private_use, n, config.max_private_use_ratio)) {
    return Counter::dropped_private_use;
  }
  if (!census.ascii && config.max_badness > 0 &&
      above(garbled_score(utf8), n, config.max_badness)) {
    return Counter::dropped_badness;
  }
  if (census.words < config.min_words) return Counter::dropped_too_short;
  if (config.max_words > 0 && census.words > config.max_words) return Counter::dropped_too_long;
  return Counter::documents_kept;
}

}  // namespace

Cleaner::Cleaner(CleanConfig config) : config_{std::move(config)} {
  std::vector<std::string> problems;
  validate(config_, problems);
  if (!problems.empty()) throw InputError{problems.front()};
}

bool Cleaner::clean(std::string_view raw, std::string& out, CleanReport& report) {
  ++report[Counter::documents_in];
  report[Counter::bytes_in] += static_cast<std::int64_t>(raw.size());
  std::string_view text = raw;
  if (valid_utf8_prefix(raw) != static_cast<std::int64_t>(raw.size())) {
    repaired_.clear();
    report[Counter::repaired_sequences] += repair_utf8(raw, repaired_);
    ++report[Counter::repaired_documents];
    text = repaired_;
  }
  const Census census = take_census(text);
  const Counter verdict = judge(config_, census, text);
  ++report[verdict];
  if (verdict != Counter::documents_kept) return false;
  if (config_.strip_controls && census.needs_rewrite) {
    report[Counter::controls_removed] += strip_controls(text, stripped_);
    text = stripped_;
  }
  // Last, because letters and marks can meet where a control stood between them.
  const Normalization form = parse_normalization(config_.normalization);
  if (is_normalized(text, form)) {
    out.assign(text);
  } else {
    normalize(text, form, out);
    ++report[Counter::normalized_documents];
  }
  report[Counter::bytes_kept] += static_cast<std::int64_t>(out.size());
  return true;
}

namespace {

/// `utf8` with each run of white space as one space and none at the ends. ASCII runs without a
/// branch on its content: every byte is written, and only some of them count.
std::string fold_white_space(std::string_view utf8) {
  const CharClasses& classes = CharClasses::instance();
  std::string folded(utf8.size(), '\0');
  std::size_t n = 0;
  bool after_space = true;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (byte < 0x80) [[likely]] {
      const bool space = (classes[byte] & kSpace) != 0;
      folded[n] = space ? ' ' : utf8[i];
      n += space && after_space ? 0 : 1;
      after_space = space;
      ++i;
      continue;
    }
    const Decoded d = decode_utf8(utf8.substr(i));
    const bool space = (classes[d.code_point] & kSpace) != 0;
    if (!space) n += utf8.copy(&folded[n], static_cast<std::size_t>(d.length), i);
    if (space && !after_space) folded[n++] = ' ';
    after_space = space;
    i += static_cast<std::size_t>(d.length);
  }
  folded.resize(n > 0 && after_space ? n - 1 : n);
  return folded;
}

}  // namespace

Hash128 dedup_key(std::string_view cleaned) {
  if (is_normalized(cleaned, Normalization::nfc)) return hash128(fold_white_space(cleaned));
  std::string composed;
  normalize(cleaned, Normalization::nfc, composed);
  return hash128(fold_white_space(composed));
}

}  // namespace shoal::text
