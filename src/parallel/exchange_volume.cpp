#include "shoal/parallel/exchange_volume.hpp"

#include <algorithm>
#include <cmath>

namespace shoal::parallel {
namespace {

/// Experts of one token that can lie on one rank.
std::int64_t slots_on_a_rank(const ExchangeShape& s) {
  return std::min(s.slots, s.experts / s.ranks);
}

}  // namespace

std::int64_t worst_expert_rows(const ExchangeShape& s) {
  return s.ranks * s.tokens * slots_on_a_rank(s);
}

std::int64_t expert_rows(const ExchangeShape& s, double factor) {
  const std::int64_t worst = worst_expert_rows(s);
  if (factor <= 0.0) return worst;
  const double share = factor * static_cast<double>(s.tokens * s.slots);
  if (share >= static_cast<double>(worst)) return worst;
  const auto rows = static_cast<std::int64_t>(std::ceil(share));
  return std::min(worst, std::max(rows, s.ranks * slots_on_a_rank(s)));
}

std::int64_t arriving_copies(const ExchangeShape& s, double factor) {
  return std::min(s.ranks * s.tokens, expert_rows(s, factor));
}

std::int64_t leaving_copies(const ExchangeShape& s) {
  return s.tokens * std::min<std::int64_t>(s.slots, s.ranks);
}

CopyCounts most_copies(const ExchangeShape& s, double factor) {
  const std::int64_t others = s.ranks - 1;
  return {.sent = s.tokens * std::min(s.slots, others),
          .received = std::min(others * s.tokens, expert_rows(s, factor))};
}

ExchangeVolume exchange_volume(const ExchangeShape& s, const CopyCounts& copies,
                               std::int64_t hidden, DType elem) {
  const std::int64_t row = hidden * size_of(elem);
  const std::int64_t i32 = size_of(DType::i32), f32 = size_of(DType::f32);
  return {.counts = (1 + s.ranks + s.experts) * i32,
          .choices = copies.sent * s.slots * (i32 + f32),
          .dispatch = copies.sent * row,
          .combine = copies.received * row,
          .combine_backward = copies.sent * row,
          .weight_backward = copies.received * s.slots * f32,
          .dispatch_backward = copies.received * row};
}

}  // namespace shoal::parallel
