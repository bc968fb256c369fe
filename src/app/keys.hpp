#pragma once
#include "shoal/app/config.hpp"

/// The bindings of input keys to config fields, by section.
namespace shoal::app {

void add_prepare_keys(KeyTable& table, data::PrepareConfig& config);
void add_model_keys(KeyTable& table, nn::ModelConfig& config);
void add_run_keys(KeyTable& table, train::RunConfig& config);
void add_tool_keys(KeyTable& table, Config& config);

}  // namespace shoal::app
