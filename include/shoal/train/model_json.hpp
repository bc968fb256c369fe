#pragma once
#include <string_view>

#include "shoal/io/json.hpp"
#include "shoal/nn/model_config.hpp"

namespace shoal::train {

/// The model's configuration as it stands in a checkpoint's manifest, key by key.
[[nodiscard]] io::Json to_json(const nn::ModelConfig& config);
/// InputError names `what` and the key that is missing, unknown or of the wrong type.
[[nodiscard]] nn::ModelConfig model_config_from_json(const io::Json& json, std::string_view what);

}  // namespace shoal::train
