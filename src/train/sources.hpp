#pragma once
#include <memory>
#include <string>
#include <vector>

#include "shoal/data/loader.hpp"
#include "shoal/data/token_dataset.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// The datasets of data.train. InputError when one does not fit model.vocab_size, or two were made
/// by different tokenizers.
[[nodiscard]] std::vector<data::BlendSource> open_sources(const RunConfig& config);

/// That of data.validation; null when none is named.
[[nodiscard]] std::shared_ptr<const data::TokenDataset> open_validation(
    const RunConfig& config, const std::string& tokenizer);

}  // namespace shoal::train
