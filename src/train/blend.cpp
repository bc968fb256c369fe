#include <charconv>
#include <cmath>

#include "shoal/base/error.hpp"
#include "train/measure.hpp"

namespace shoal::train {
namespace {

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

SourceName parse_entry(const std::string& entry) {
  const auto colon = entry.rfind(':');
  if (colon == std::string::npos) return {.folder = entry};
  const std::string number = trimmed(entry.substr(colon + 1));
  double weight = 0.0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), weight);
  const bool whole = error == std::errc{} && end == number.data() + number.size();
  require(whole && std::isfinite(weight) && weight > 0.0,
          "data.train: \"" + entry + "\": the weight after ':' must be a number above 0");
  return {.folder = trimmed(entry.substr(0, colon)), .weight = weight};
}

}  // namespace

std::vector<SourceName> parse_blend(const std::string& text) {
  std::vector<SourceName> sources;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string entry = trimmed(text.substr(at, comma - at));
    require(!entry.empty(), "data.train = \"" + text + "\": an entry is empty");
    sources.push_back(parse_entry(entry));
    at = comma + 1;
  }
  return sources;
}

}  // namespace shoal::train
