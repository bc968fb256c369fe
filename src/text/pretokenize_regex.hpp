#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/text/pretokenizer.hpp"

namespace shoal::text {

/// What becomes of the matches and of the text between them (Hugging Face "behavior").
struct SplitBehavior {
  enum class Kind { isolated, removed, contiguous } kind = Kind::isolated;
  bool invert = false;  ///< matches and gaps change roles
};

/// `pattern` in our engine's spelling (PCRE2 with UTF and UCP). The published files are written for
/// Oniguruma, in which some escapes mean something else: \s and \w are rewritten to the characters
/// Oniguruma takes; what cannot be rewritten throws InputError that names it.
[[nodiscard]] std::string translate_regex(std::string_view pattern);

/// Any expression through PCRE2. Bytes that are not UTF-8 match nothing and stay pieces. Characters
/// newer than the engine's Unicode tables (14 in PCRE2 10.42) count as unassigned.
[[nodiscard]] std::unique_ptr<PreTokenizer> make_regex_split(std::string_view pattern,
                                                             SplitBehavior behavior);

/// Each stage cuts the pieces of the one before it.
[[nodiscard]] std::unique_ptr<PreTokenizer> make_pipeline(
    std::vector<std::unique_ptr<PreTokenizer>> stages);

}  // namespace shoal::text
