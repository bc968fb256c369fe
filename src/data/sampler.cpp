#include "shoal/data/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/data/permutation.hpp"

namespace shoal::data {
namespace {

/// FNV-1a: a source keeps its order when others come, go or change places.
[[nodiscard]] std::uint32_t name_key(std::string_view name) {
  std::uint32_t hash = 2166136261U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

/// The order of one epoch of one source.
struct Epoch {
  KeyedPermutation order;
  std::int64_t first;  ///< token at which the first window begins

  static Epoch make(std::uint64_t seed, const SourceState& s) {
    const auto b = philox::block(seed, philox::Purpose::data_order,
                                 static_cast<std::uint64_t>(s.epoch), name_key(s.name));
    const std::int64_t inputs = s.num_tokens - 1;  // the last token is only a target
    const std::int64_t places = std::min(s.window, inputs - s.window + 1);
    const auto first = static_cast<std::int64_t>(b.x2 % static_cast<std::uint64_t>(places));
    return {KeyedPermutation{philox::bits64(b), (inputs - first) / s.window}, first};
  }
  [[nodiscard]] std::int64_t length(const SourceState& s) const { return order.size() * s.window; }
};

void validate(const Sampler::Config& config, const std::vector<SourceSpec>& sources) {
  require(config.sequence >= 1, "the sequence length must be at least 1");
  require(!sources.empty(), "no training data was named");
  double sum = 0.0;
  for (const SourceSpec& s : sources) {
    require(std::isfinite(s.weight) && s.weight >= 0.0,
            "source " + s.name + ": the weight must be a number from 0 up");
    require(s.num_tokens > config.sequence,
            "source " + s.name + " has " + std::to_string(s.num_tokens) +
                " tokens, one sample needs " + std::to_string(config.sequence + 1));
    const auto same = [&s](const SourceSpec& other) { return other.name == s.name; };
    require(std::count_if(sources.begin(), sources.end(), same) == 1,
            "source " + s.name + " is named twice");
    sum += s.weight;
  }
  require(sum > 0.0, "the weights of all sources are 0");
}

}  // namespace

Sampler::Sampler(const Config& config, const std::vector<SourceSpec>& sources)
    : Sampler{config, sources, Ledger{.seed = config.seed}} {}

Sampler::Sampler(const Config& config, const std::vector<SourceSpec>& sources, Ledger ledger)
    : config_{config}, ledger_{std::move(ledger)} {
  validate(config_, sources);
  require(ledger_.seed == config_.seed,
          "the run began with data seed " + std::to_string(ledger_.seed) +
              ", it cannot continue with " + std::to_string(config_.seed));
  adopt(sources);
  set_weights(sources);
}

void Sampler::adopt(const std::vector<SourceSpec>& sources) {
  for (const SourceSpec& spec : sources) {
    auto known = std::find_if(ledger_.sources.begin(), ledger_.sources.end(),
                              [&spec](const SourceState& s) { return s.name == spec.name; });
    if (known == ledger_.sources.end()) {
      ledger_.sources.push_back(
          {.name = spec.name, .fingerprint = spec.fingerprint, .num_tokens = spec.num_tokens});
      known = std::prev(ledger_.sources.end());
    }
    require(known->fingerprint == spec.fingerprint && known->num_tokens == spec.num_tokens,
            "source " + spec.name +
                " is not the dataset with which the run began; give changed data another name");
    indices_.push_back(known - ledger_.sources.begin());
  }
}

void Sampler::set_weights(const std::vector<SourceSpec>& sources) {
  std::vector<double> weights(ledger_.sources.size(), 0.0);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    weights[static_cast<std::size_t>(indices_[i])] = sources[i].weight;
  }
  auto& log = ledger_.weight_log;
  if (!log.empty() && log.back().weights == weights) return;
  if (!log.empty() && log.back().position == ledger_.position) log.pop_back();
  log.push_back({ledger_.position, std::move(weights)});
}

std::int64_t Sampler::pick_source() const {
  const std::vector<double>& weights = ledger_.weight_log.back().weights;
  double sum = 0.0;
  for (const double w : weights) sum += w;
  const auto b = philox::block(ledger_.seed, philox::Purpose::blend,
                               static_cast<std::uint64_t>(ledger_.position));
  const double aim = static_cast<double>(philox::bits64(b) >> 11) * 0x1p-53 * sum;
  double reached = 0.0;
  std::int64_t last = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0.0) continue;
    last = static_cast<std::int64_t>(i);
    reached += weights[i];
    if (aim < reached) break;
  }
  return last;
}

/// The next `want` tokens of the source, or fewer up to the end of a window.
Piece Sampler::take(std::int64_t source, std::int64_t want) {
  SourceState& s = ledger_.sources[static_cast<std::size_t>(source)];
  if (s.window == 0) s.window = config_.sequence;
  const Epoch epoch = Epoch::make(ledger_.seed, s);
  const std::int64_t inside = s.offset % s.window;
  const Piece piece{.source = source,
                    .start = epoch.first + epoch.order(s.offset / s.window) * s.window + inside,
                    .count = std::min(want, s.window - inside)};
  s.offset += piece.count;
  s.consumed += piece.count;
  if (s.offset == epoch.length(s)) {
    ++s.epoch;
    s.offset = 0;
    s.window = 0;  // the next epoch is cut to the sequence length of its own time
  }
  return piece;
}

std::vector<Sample> Sampler::next(std::int64_t count) {
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t source = pick_source();
    Sample& sample = samples.emplace_back();
    for (std::int64_t have = 0; have < config_.sequence; have += sample.back().count) {
      sample.push_back(take(source, config_.sequence - have));
    }
    ++ledger_.position;
  }
  return samples;
}

}  // namespace shoal::data
