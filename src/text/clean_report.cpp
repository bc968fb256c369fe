#include <iterator>

#include "shoal/text/clean.hpp"

namespace shoal::text {
namespace {

constexpr std::array<std::string_view, CleanReport::num_counters> kNames = {
    "documents_in",         "bytes_in",
    "repaired_documents",   "repaired_sequences",
    "normalized_documents", "controls_removed",
    "dropped_empty",        "dropped_too_short",
    "dropped_too_long",     "dropped_replacement",
    "dropped_control",      "dropped_private_use",
    "dropped_badness",      "dropped_duplicate",
    "documents_kept",       "bytes_kept"};

}  // namespace

CleanReport& CleanReport::operator+=(const CleanReport& other) {
  for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
  return *this;
}

std::string_view CleanReport::name(Counter c) {
  return kNames[c];
}

std::string CleanReport::describe() const {
  std::string text;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    std::string line{kNames[i]};
    line.resize(22, ' ');
    text += line + std::to_string(counts[i]) + "\n";
  }
  return text;
}

void validate(const CleanConfig& config, std::vector<std::string>& problems) {
  const std::string& form = config.normalization;
  if (form != "nfc" && form != "nfkc" && form != "none") {
    problems.push_back("normalization is \"" + form + "\"; allowed: nfc, nfkc, none");
  }
  if (config.min_words < 0) problems.emplace_back("min_words must be at least 0 (0 = off)");
  if (config.max_words < 0) problems.emplace_back("max_words must be at least 0 (0 = off)");
  if (config.max_words > 0 && config.max_words < config.min_words) {
    problems.emplace_back("max_words is smaller than min_words: every document would be dropped");
  }
  const auto ratio = [&](std::string_view name, double value) {
    if (value >= 0 && value <= 1) return;
    problems.push_back(std::string{name} + " must be from 0 to 1 (1 = off)");
  };
  ratio("max_replacement_ratio", config.max_replacement_ratio);
  ratio("max_control_ratio", config.max_control_ratio);
  ratio("max_private_use_ratio", config.max_private_use_ratio);
}

}  // namespace shoal::text
