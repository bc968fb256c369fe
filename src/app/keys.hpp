#pragma once
#include "shoal/app/config.hpp"

namespace shoal::app {

void add_text_keys(KeyTable& table, Config& config);
void add_model_keys(KeyTable& table, Config& config);

}  // namespace shoal::app
