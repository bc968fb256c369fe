#include "shoal/nn/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"

namespace shoal::nn {
namespace {

struct Candidate {
  float logit;
  std::int32_t token;
};

/// The most likely tokens, best first; at most `limit` of them.
std::vector<Candidate> best_tokens(std::span<const float> logits, std::size_t limit) {
  std::vector<Candidate> all(logits.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    expect(!std::isnan(logits[i]), "a logit is not a number");
    all[i] = {logits[i], static_cast<std::int32_t>(i)};
  }
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(limit, all.size()));
  std::partial_sort(all.begin(), end, all.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  });
  all.erase(end, all.end());
  return all;
}

/// Uniform in [0, 1) with 53 random bits.
double draw(const SamplingConfig& config, std::uint64_t index) {
  const philox::Block block = philox::block(config.seed, philox::Purpose::sampling, index);
  return static_cast<double>(philox::bits64(block) >> 11) * 0x1p-53;
}

}  // namespace

void validate(const SamplingConfig& c, std::vector<std::string>& problems) {
  if (!std::isfinite(c.temperature) || c.temperature < 0.0) {
    problems.push_back("temperature = " + std::to_string(c.temperature) +
                       "; allowed: a finite number >= 0");
  }
  if (c.top_k < 0) {
    problems.push_back("top_k = " + std::to_string(c.top_k) + "; allowed: at least 0");
  }
  if (!(c.top_p > 0.0 && c.top_p <= 1.0)) {
    problems.push_back("top_p = " + std::to_string(c.top_p) + "; allowed: 0 < top_p <= 1");
  }
}

std::int32_t sample(std::span<const float> logits, const SamplingConfig& config,
                    std::uint64_t index) {
  expect(!logits.empty(), "no logits to sample from");
  const bool greedy = config.temperature <= 0.0;
  const std::size_t limit = greedy             ? 1
                            : config.top_k > 0 ? static_cast<std::size_t>(config.top_k)
                                               : logits.size();
  const std::vector<Candidate> best = best_tokens(logits, limit);
  if (greedy) return best.front().token;
  std::vector<double> weight(best.size());
  for (std::size_t i = 0; i < best.size(); ++i) {
    weight[i] = std::exp((double{best[i].logit} - best.front().logit) / config.temperature);
  }
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::size_t kept = 0;
  double mass = 0.0;
  while (kept < best.size() && (kept == 0 || mass < config.top_p * total)) mass += weight[kept++];
  total = mass;
  double left = draw(config, index) * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weight[i];
    if (left < 0.0) return best[i].token;
  }
  return best[kept - 1].token;
}

}  // namespace shoal::nn
