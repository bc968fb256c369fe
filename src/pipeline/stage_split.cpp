#include "shoal/pipeline/stage_split.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::pipeline {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-9;  ///< relative; costs that differ by less are equal

/// What layers [first, last) cost as chunk number `chunk`.
class ChunkCosts {
 public:
  ChunkCosts(const LayerCosts& costs, int chunks) : costs_{costs}, chunks_{chunks} {
    sums_.resize(costs.layers.size() + 1);
    std::partial_sum(costs.layers.begin(), costs.layers.end(), sums_.begin() + 1);
  }
  [[nodiscard]] double operator()(int chunk, std::size_t first, std::size_t last) const {
    return sums_[last] - sums_[first] + (chunk == 0 ? costs_.embedding : 0.0) +
           (chunk == chunks_ - 1 ? costs_.head : 0.0);
  }

 private:
  const LayerCosts& costs_;
  int chunks_;
  std::vector<double> sums_;
};

/// The best split by dynamic programming over (chunks, layers): `join(best of the chunks before,
/// cost of this chunk)` is the value of a split, and the least wins, with the earliest cut.
template <class Join>
class Splitter {
 public:
  Splitter(const ChunkCosts& cost, int chunks, std::size_t layers, Join join)
      : chunks_{static_cast<std::size_t>(chunks)}, layers_{layers} {
    best_.assign(chunks_ + 1, std::vector<double>(layers + 1, kImpossible));
    cut_.assign(chunks_ + 1, std::vector<std::size_t>(layers + 1, 0));
    best_[0][0] = 0.0;
    for (std::size_t c = 1; c <= chunks_; ++c) {
      for (std::size_t last = c; last <= layers; ++last) {
        for (std::size_t first = c - 1; first < last; ++first) {
          const double value =
              join(best_[c - 1][first], cost(static_cast<int>(c) - 1, first, last));
          if (value < best_[c][last]) {
            best_[c][last] = value;
            cut_[c][last] = first;
          }
        }
      }
    }
  }
  [[nodiscard]] double value() const { return best_[chunks_][layers_]; }
  [[nodiscard]] std::vector<std::int64_t> split() const {
    std::vector<std::int64_t> counts(chunks_);
    std::size_t last = layers_;
    for (std::size_t c = chunks_; c > 0; --c) {
      counts[c - 1] = static_cast<std::int64_t>(last - cut_[c][last]);
      last = cut_[c][last];
    }
    return counts;
  }

 private:
  std::size_t chunks_, layers_;
  std::vector<std::vector<double>> best_;
  std::vector<std::vector<std::size_t>> cut_;
};

void require_enough_layers(std::int64_t layers, int chunks) {
  require(layers >= chunks, "parallel.pp x parallel.chunks = " + std::to_string(chunks) +
                                " model chunks: more than the " + std::to_string(layers) +
                                " layers of the model; each chunk needs at least one");
}

/// The dearest chunk is as cheap as can be and, among those splits, the sum of squares least.
std::vector<std::int64_t> even_chunks(const LayerCosts& costs, int chunks) {
  const ChunkCosts cost{costs, chunks};
  const std::size_t layers = costs.layers.size();
  const double dearest = Splitter{
      cost, chunks, layers, [](double before, double c) {
        return std::max(before, c);
      }}.value();
  // Sums come in another order than in the first pass: a rounding error must not exclude a split.
  const double limit = dearest * (1.0 + kRounding);
  return Splitter{
      cost, chunks, layers,
      [limit](double before, double c) { return c <= limit ? before + c * c : kImpossible; }}
      .split();
}

/// What a split is worth for ranks of several chunks; less is better, the first difference counts.
struct RankLoad {
  double dearest = 0.0;        ///< rank
  double rank_squares = 0.0;   ///< sum over ranks
  double chunk_squares = 0.0;  ///< sum over chunks

  [[nodiscard]] bool below(const RankLoad& o) const {
    const auto differs = [](double a, double b) { return std::abs(a - b) > kRounding * b; };
    if (differs(dearest, o.dearest)) return dearest < o.dearest;
    if (differs(rank_squares, o.rank_squares)) return rank_squares < o.rank_squares;
    return differs(chunk_squares, o.chunk_squares) && chunk_squares < o.chunk_squares;
  }
};

/// Moves layers between chunks as long as that helps the ranks.
class RankBalance {
 public:
  RankBalance(const LayerCosts& costs, const ScheduleShape& shape)
      : cost_{costs, shape.model_chunks()}, shape_{shape} {}

  [[nodiscard]] std::vector<std::int64_t> improve(std::vector<std::int64_t> counts) const {
    RankLoad load = load_of(counts);
    for (bool better = true; better;) {
      std::vector<std::int64_t> best = counts;
      better = false;
      for (std::size_t from = 0; from < counts.size(); ++from) {
        for (std::size_t to = 0; to < counts.size(); ++to) {
          if (counts[from] == 1 || from == to) continue;
          std::vector<std::int64_t> moved = counts;
          --moved[from];
          ++moved[to];
          const RankLoad other = load_of(moved);
          if (!other.below(load)) continue;
          load = other;
          best = std::move(moved);
          better = true;
        }
      }
      counts = std::move(best);
    }
    return counts;
  }

 private:
  [[nodiscard]] RankLoad load_of(const std::vector<std::int64_t>& counts) const {
    RankLoad load;
    std::vector<double> ranks(static_cast<std::size_t>(shape_.stages));
    std::size_t first = 0;
    for (int c = 0; c < shape_.model_chunks(); ++c) {
      const std::size_t last =
          first + static_cast<std::size_t>(counts[static_cast<std::size_t>(c)]);
      const double cost = cost_(c, first, last);
      ranks[static_cast<std::size_t>(place_of(shape_, c).rank)] += cost;
      load.chunk_squares += cost * cost;
      first = last;
    }
    for (const double cost : ranks) {
      load.dearest = std::max(load.dearest, cost);
      load.rank_squares += cost * cost;
    }
    return load;
  }

  ChunkCosts cost_;
  ScheduleShape shape_;
};

}  // namespace

LayerCosts layer_costs(const nn::ModelConfig& c, std::int64_t sequence) {
  const auto product = [](std::int64_t a, std::int64_t b) {
    return 2.0 * static_cast<double>(a) * static_cast<double>(b);
  };
  const std::int64_t D = c.hidden_size, heads = c.num_attention_heads * c.head_dim;
  const std::int64_t groups = c.num_key_value_heads * c.head_dim, F = c.moe_intermediate_size;
  const double attention =
      product(heads, static_cast<std::int64_t>(sequence)) + product(D, 2 * heads + 2 * groups);
  LayerCosts costs{.head = product(D, c.vocab_size)};
  for (std::int64_t n = 0; n < c.num_hidden_layers; ++n) {
    const double moe = product(D, c.num_experts) +
                       product(D, 3 * F * (c.num_experts_per_tok + c.n_shared_experts));
    const double dense = product(D, 3 * c.intermediate_size);
    costs.layers.push_back(attention + (c.is_moe_layer(n) ? moe : dense));
  }
  return costs;
}

std::vector<std::int64_t> split_layers(const LayerCosts& costs, const ScheduleShape& shape) {
  expect(shape.model_chunks() >= 1, "split_layers: at least one chunk");
  require_enough_layers(std::ssize(costs.layers), shape.model_chunks());
  const std::vector<std::int64_t> even = even_chunks(costs, shape.model_chunks());
  return shape.chunks == 1 ? even : RankBalance{costs, shape}.improve(even);
}

std::vector<std::int64_t> parse_stages(std::string_view text, std::int64_t layers, int chunks) {
  const std::string who = "parallel.stages = " + std::string{text} + ": ";
  require_enough_layers(layers, chunks);
  std::vector<std::int64_t> counts;
  for (const char* at = text.data(); at <= text.data() + text.size(); ++at) {
    const char* end = std::find(at, text.data() + text.size(), ',');
    std::int64_t count = 0;
    const auto [stop, error] = std::from_chars(at, end, count);
    require(error == std::errc{} && stop == end && count >= 1,
            who + "must be numbers >= 1 with commas between them, e.g. 3,2,3");
    counts.push_back(count);
    at = end;
  }
  require(std::ssize(counts) == chunks,
          who + std::to_string(counts.size()) +
              " numbers, but parallel.pp x parallel.chunks = " + std::to_string(chunks));
  const std::int64_t sum = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  require(sum == layers, who + "adds up to " + std::to_string(sum) +
                             ", but model.num_hidden_layers = " + std::to_string(layers));
  return counts;
}

std::vector<std::int64_t> chunk_layers(const StageSplit& split, const ScheduleShape& shape) {
  if (!split.stages.empty()) {
    return parse_stages(split.stages, split.config.num_hidden_layers, shape.model_chunks());
  }
  return split_layers(layer_costs(split.config, split.sequence), shape);
}

std::vector<nn::StageRange> model_ranges(const std::vector<std::int64_t>& layers) {
  std::vector<nn::StageRange> ranges;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    ranges.push_back({.first_layer = first,
                      .last_layer = first + layers[i],
                      .embedding = i == 0,
                      .head = i + 1 == layers.size()});
    first += layers[i];
  }
  return ranges;
}

std::vector<nn::StageRange> rank_ranges(const std::vector<std::int64_t>& layers,
                                        const ScheduleShape& shape, int rank) {
  expect(std::ssize(layers) == shape.model_chunks(), "rank_ranges: one count a model chunk");
  const std::vector<nn::StageRange> all = model_ranges(layers);
  std::vector<nn::StageRange> ranges;
  ranges.reserve(static_cast<std::size_t>(shape.chunks));
  for (int c = 0; c < shape.chunks; ++c) {
    ranges.push_back(all[static_cast<std::size_t>(model_chunk(shape, {rank, c}))]);
  }
  return ranges;
}

}  // namespace shoal::pipeline
