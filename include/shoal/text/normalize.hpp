#pragma once
#include <string>
#include <string_view>

namespace shoal::text {

/// Unicode normalisation forms (Unicode Standard Annex 15).
enum class Normalization { none, nfc, nfd, nfkc, nfkd };

/// True when `utf8` (valid UTF-8) is in `form` already. ASCII is answered without a table.
[[nodiscard]] bool is_normalized(std::string_view utf8, Normalization form);

/// `utf8` (valid UTF-8) in `form`, written to `out` (overwritten).
void normalize(std::string_view utf8, Normalization form, std::string& out);

}  // namespace shoal::text
