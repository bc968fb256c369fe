#pragma once
#include "shoal/data/prepare.hpp"
#include "shoal/io/json.hpp"

namespace shoal::data {

/// Every option that decides the tokens, for dataset.json and the shards.
[[nodiscard]] io::Json options_json(const PrepareConfig& config);

/// Every count; without the time, so that two runs give the same text.
[[nodiscard]] io::Json counts_json(const PrepareReport& report);

}  // namespace shoal::data
