#pragma once
#include "shoal/app/key_table.hpp"
#include "shoal/nn/model_config.hpp"
#include "shoal/text/bpe_trainer.hpp"
#include "shoal/text/clean.hpp"

namespace shoal::app {

/// Every config struct that an input file can fill, one member a section.
struct Config {
  text::CleanConfig clean;
  text::BpeTrainConfig tokenizer;
  nn::ModelConfig model;
};

/// Binds every field to its key. `config` must outlive the table and not move.
[[nodiscard]] KeyTable make_key_table(Config& config);

}  // namespace shoal::app
