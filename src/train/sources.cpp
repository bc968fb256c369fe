#include "train/sources.hpp"

#include <filesystem>

#include "train/measure.hpp"

namespace shoal::train {

std::vector<data::BlendSource> open_sources(const RunConfig& config) {
  std::vector<data::BlendSource> sources;
  std::string tokenizer;
  for (const SourceName& source : parse_blend(config.data.train)) {
    auto dataset = std::make_shared<const data::TokenDataset>(source.folder);
    dataset->require_compatible(config.model.vocab_size, tokenizer);
    tokenizer = dataset->info().tokenizer_hash;
    const std::filesystem::path folder = std::filesystem::path{source.folder}.lexically_normal();
    const auto name = folder.has_filename() ? folder.filename() : folder.parent_path().filename();
    sources.push_back({.name = name.string(), .dataset = dataset, .weight = source.weight});
  }
  return sources;
}

std::shared_ptr<const data::TokenDataset> open_validation(const RunConfig& config,
                                                          const std::string& tokenizer) {
  if (config.data.validation.empty()) return nullptr;
  auto dataset = std::make_shared<const data::TokenDataset>(config.data.validation);
  dataset->require_compatible(config.model.vocab_size, tokenizer);
  return dataset;
}

}  // namespace shoal::train
