#include "shoal/data/source.hpp"

namespace shoal::data {
namespace {

constexpr std::array<std::string_view, SourceReport::num_counters> kNames = {
    "files_read",    "files_binary",    "files_empty",        "files_unreadable", "links_skipped",
    "documents_cut", "lines_malformed", "lines_without_text", "bytes_read"};

void one_of(std::string_view key, const std::string& value,
            std::initializer_list<std::string_view> allowed, std::vector<std::string>& problems) {
  std::string list;
  for (const std::string_view name : allowed) {
    if (value == name) return;
    list += (list.empty() ? "" : ", ") + std::string{name};
  }
  problems.push_back(std::string{key} + " is \"" + value + "\"; allowed: " + list);
}

}  // namespace

void validate(const SourceConfig& config, std::vector<std::string>& problems) {
  if (config.inputs.empty()) problems.emplace_back("inputs: name at least one file or folder");
  one_of("format", config.format, {"auto", "text", "jsonl"}, problems);
  one_of("documents", config.documents, {"file", "paragraph", "separator"}, problems);
  if (config.text_field.empty()) problems.emplace_back("text_field must not be empty");
  const bool one_line = config.separator.find_first_of("\r\n") == std::string::npos;
  if (config.documents == "separator" && (config.separator.empty() || !one_line)) {
    problems.emplace_back("separator must be the text of one line");
  }
  if (config.max_document_mb < 1 || config.max_document_mb > 1024) {
    problems.emplace_back("max_document_mb must be from 1 to 1024");
  }
}

SourceReport& SourceReport::operator+=(const SourceReport& other) {
  for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
  return *this;
}

std::string_view SourceReport::name(Counter c) {
  return kNames[c];
}

}  // namespace shoal::data
