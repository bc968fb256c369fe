#include "shoal/app/key_table.hpp"

#include <algorithm>
#include <numeric>

#include "shoal/base/error.hpp"

namespace shoal::app {
namespace {

/// Levenshtein distance: single letters inserted, removed or replaced.
std::int64_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::int64_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (const char letter : a) {
    std::int64_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::int64_t replaced = diagonal + (letter == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string markdown_cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, "\\");
  }
  return text;
}

}  // namespace

void KeyTable::section(std::string_view name, std::string_view help) {
  sections_.push_back({std::string{name}, std::string{help}});
}

void KeyTable::insert(Key key) {
  expect(!sections_.empty(), "a key needs a section");
  key.name = sections_.back().name + "." + key.name;
  expect(find(key.name) == nullptr, "key is bound twice: " + key.name);
  keys_.push_back(std::move(key));
}

const Key* KeyTable::find(std::string_view name) const {
  const auto found =
      std::find_if(keys_.begin(), keys_.end(), [name](const Key& key) { return key.name == name; });
  return found == keys_.end() ? nullptr : &*found;
}

std::string KeyTable::nearest(std::string_view name) const {
  const auto bare = [](std::string_view full) { return full.substr(full.find('.') + 1); };
  std::string best;
  std::int64_t best_distance = 1 + static_cast<std::int64_t>(bare(name).size()) / 3;
  for (const Key& key : keys_) {
    // The right key in a wrong section counts as near.
    const auto distance =
        std::min(edit_distance(name, key.name), edit_distance(bare(name), bare(key.name)));
    if (distance < best_distance) {
      best = key.name;
      best_distance = distance;
    }
  }
  return best;
}

std::string KeyTable::to_ini(const std::set<std::string>& sections) const {
  std::string text;
  for (const Section& section : sections_) {
    if (!sections.contains(section.name)) continue;
    text += (text.empty() ? "[" : "\n[") + section.name + "]\n";
    for (const Key& key : keys_) {
      if (key.section() != section.name) continue;
      text += key.name.substr(section.name.size() + 1) + " = " + key.show() + "\n";
    }
  }
  return text;
}

std::string KeyTable::to_markdown() const {
  std::string text;
  for (const Section& section : sections_) {
    text += (text.empty() ? "### [" : "\n### [") + section.name + "]\n\n" + section.help;
    text += "\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
    for (const Key& key : keys_) {
      if (key.section() != section.name) continue;
      const auto shown = key.default_text.empty() ? "" : "`" + key.default_text + "`";
      text += "| `" + key.name.substr(section.name.size() + 1) + "` | " + key.type + " | " +
              markdown_cell(shown) + " | " + markdown_cell(key.help) + " |\n";
    }
  }
  return text;
}

}  // namespace shoal::app
