#include <algorithm>
#include <sstream>

#include "shoal/base/error.hpp"
#include "shoal/train/cost_model.hpp"
#include "train/layer_cost.hpp"

namespace shoal::train {
namespace {

std::vector<nn::StageRange> ranges_of(const std::vector<std::int64_t>& counts) {
  std::vector<nn::StageRange> ranges;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    ranges.push_back({.first_layer = first,
                      .last_layer = first + counts[i],
                      .embedding = i == 0,
                      .head = i + 1 == counts.size()});
    first += counts[i];
  }
  return ranges;
}

/// "3,2,3" as asked for by parallel.stages.
std::vector<std::int64_t> given_counts(const std::string& text, std::size_t chunks,
                                       std::int64_t layers) {
  std::vector<std::int64_t> counts;
  std::int64_t sum = 0;
  std::stringstream stream{text};
  for (std::string item; std::getline(stream, item, ',');) {
    char* end = nullptr;
    counts.push_back(std::strtoll(item.c_str(), &end, 10));
    require(end != item.c_str() && *end == '\0' && counts.back() >= 1,
            "parallel.stages = " + text + ": allowed: numbers of layers, e.g. 3,2,3");
    sum += counts.back();
  }
  require(counts.size() == chunks && sum == layers,
          "parallel.stages = " + text + ": needs " + std::to_string(chunks) + " numbers with sum " +
              std::to_string(layers));
  return counts;
}

/// Fills chunks from the first on, each as long as its time stays within `limit`, and leaves a
/// layer for each later one; empty when the layers do not fit.
std::vector<std::int64_t> fill(const std::vector<double>& layers, std::size_t chunks, double limit,
                               double first_extra, double last_extra) {
  std::vector<std::int64_t> counts;
  std::size_t at = 0;
  for (std::size_t c = 0; c < chunks; ++c) {
    const std::size_t later = chunks - 1 - c;
    double time = (c == 0 ? first_extra : 0.0) + (later == 0 ? last_extra : 0.0);
    const std::size_t begin = at;
    while (at < layers.size() - later && (at == begin || time + layers[at] <= limit)) {
      time += layers[at++];
    }
    if (time > limit) return {};
    counts.push_back(static_cast<std::int64_t>(at - begin));
  }
  return at == layers.size() ? counts : std::vector<std::int64_t>{};
}

double seconds_of(const ChunkWork& work) {
  const pipeline::ChunkCost& s = work.seconds;
  return s.forward + s.backward_input + s.backward_weight;
}

}  // namespace

std::vector<nn::StageRange> model_chunks(const RunConfig& config, const Calibration& calibration) {
  const std::int64_t layers = config.model.num_hidden_layers;
  const auto chunks = static_cast<std::size_t>(config.parallel.pp * config.parallel.chunks);
  require(static_cast<std::int64_t>(chunks) <= layers,
          "parallel.pp x chunks = " + std::to_string(chunks) + ": the model has only " +
              std::to_string(layers) + " layers");
  if (!config.parallel.stages.empty()) {
    return ranges_of(given_counts(config.parallel.stages, chunks, layers));
  }
  if (chunks == 1) return {nn::whole_model(config.model)};
  const NetworkCost network{calibration, 1 << 20};
  const LayerCost cost{config, calibration, network};
  std::vector<double> times;
  for (std::int64_t i = 0; i < layers; ++i) times.push_back(seconds_of(cost.layer(i)));
  const double first = seconds_of(cost.embedding()), last = seconds_of(cost.head());
  double low = 0.0, high = first + last;
  for (const double t : times) high += t;
  std::vector<std::int64_t> best = fill(times, chunks, high, first, last);
  constexpr int kHalvings = 30;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (low + high);
    const auto counts = fill(times, chunks, middle, first, last);
    if (counts.empty()) {
      low = middle;
    } else {
      high = middle;
      best = counts;
    }
  }
  return ranges_of(best);
}

}  // namespace shoal::train
