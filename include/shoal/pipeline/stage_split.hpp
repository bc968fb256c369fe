#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "shoal/nn/model_layout.hpp"
#include "shoal/pipeline/schedule.hpp"

namespace shoal::pipeline {

/// What a token costs in each part of a model: any unit, forward only.
struct LayerCosts {
  std::vector<double> layers;
  double embedding = 0.0;
  double head = 0.0;
};
/// FLOPs of matrix products a token, as nn::model_size counts them; the embedding is a lookup.
[[nodiscard]] LayerCosts layer_costs(const nn::ModelConfig& config, std::int64_t sequence);

/// Layers of each model chunk, in model order, such that the dearest rank is as cheap as can be.
/// The first chunk also pays the embedding, the last one the head; a rank pays all its chunks, so
/// that in a V the first rank pays both. Among those splits the sum of squares of the ranks' costs,
/// then of the chunks' costs, is small. With one chunk a rank no split is better; with several a
/// split is found that no layer moved from one chunk to another improves, which is the best one
/// where all layers cost the same. Every chunk gets at least one layer: InputError when there are
/// more chunks than layers.
[[nodiscard]] std::vector<std::int64_t> split_layers(const LayerCosts& costs,
                                                     const ScheduleShape& shape);

/// The value of parallel.stages, "3,2,3": layers of each model chunk. InputError that names the key
/// unless there are `chunks` numbers >= 1 that add up to `layers`.
[[nodiscard]] std::vector<std::int64_t> parse_stages(std::string_view text, std::int64_t layers,
                                                     int chunks);

/// parse_stages, or split_layers by FLOPs where the text is empty. `sequence`: tokens.
struct StageSplit {
  const nn::ModelConfig& config;
  std::string_view stages;
  std::int64_t sequence = 1;
};
[[nodiscard]] std::vector<std::int64_t> chunk_layers(const StageSplit& split,
                                                     const ScheduleShape& shape);

/// The ranges of all model chunks, in model order.
[[nodiscard]] std::vector<nn::StageRange> model_ranges(const std::vector<std::int64_t>& layers);
/// The ranges of a rank's chunks, in local order.
[[nodiscard]] std::vector<nn::StageRange> rank_ranges(const std::vector<std::int64_t>& layers,
                                                      const ScheduleShape& shape, int rank);

}  // namespace shoal::pipeline
