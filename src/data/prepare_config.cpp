#include <array>
#include <cstdio>

#include "data/prepare_json.hpp"

namespace shoal::data {

void validate(const PrepareConfig& config, std::vector<std::string>& problems) {
  validate(config.source, problems);
  text::validate(config.clean, problems);
  if (config.tokenizer == "train") text::validate(config.training, problems);
  if (config.tokenizer.empty()) {
    problems.emplace_back("tokenizer is empty; allowed: train, bytes, path of a tokenizer.json");
  }
  if (config.train_sample_mb < 1) problems.emplace_back("train_sample_mb must be at least 1");
  if (!(config.val_fraction >= 0.0 && config.val_fraction <= 0.5)) {
    problems.emplace_back("val_fraction must be from 0 to 0.5");
  }
  if (config.val_split != "hash" && config.val_split != "tail") {
    problems.push_back("val_split is \"" + config.val_split + "\"; allowed: hash, tail");
  }
  if (config.shard_mb < 0 || config.shard_mb > 65536) {
    problems.emplace_back("shard_mb must be from 0 (by the size of the corpus) to 65536");
  }
  if (config.output.empty()) problems.emplace_back("output: name a folder");
}

namespace {

void add_counts(const io::Json& counts, std::string& text) {
  for (const auto& item : counts.items()) {
    if (item.value().is_object()) {
      add_counts(item.value(), text);
      continue;
    }
    std::string line = "  " + item.key();
    line.resize(std::max<std::size_t>(line.size() + 1, 26), ' ');
    const bool plain = item.value().is_string();
    text += line + (plain ? item.value().get<std::string>() : item.value().dump()) + "\n";
  }
}

}  // namespace

std::string PrepareReport::describe() const {
  std::string text;
  add_counts(counts_json(*this), text);
  std::array<char, 64> time{};
  const double bytes = static_cast<double>(source[SourceReport::bytes_read]);
  std::snprintf(time.data(), time.size(), "  %-23s %.1f s, %.1f MB/s\n", "time", seconds,
                seconds > 0 ? bytes * 1e-6 / seconds : 0.0);
  return text + time.data();
}

}  // namespace shoal::data
