#pragma once
#include <cstdint>

#include "shoal/tensor/dtype.hpp"

namespace shoal::parallel {

/// One MoE layer and micro-batch as one expert parallel rank sees it.
struct ExchangeShape {
  std::int64_t tokens = 0;  ///< of this rank
  std::int64_t slots = 1;   ///< experts of a token
  std::int64_t experts = 1;
  int ranks = 1;
};

/// Rows of experts that can be for one rank when all tokens of all ranks choose its experts.
[[nodiscard]] std::int64_t worst_expert_rows(const ExchangeShape& shape);
/// Rows that the buffers hold: `factor` times the even share tokens * slots, at least what lets
/// every rank send one token and at most the worst case; factor 0: the worst case.
[[nodiscard]] std::int64_t expert_rows(const ExchangeShape& shape, double factor);
/// Copies of tokens that the buffers hold: no more than rows, no more than tokens of all ranks.
[[nodiscard]] std::int64_t arriving_copies(const ExchangeShape& shape, double factor);
/// Copies that can leave a rank, its own included.
[[nodiscard]] std::int64_t leaving_copies(const ExchangeShape& shape);

/// Copies of tokens between this rank and the others.
struct CopyCounts {
  std::int64_t sent = 0;
  std::int64_t received = 0;
};
/// The most that the buffers allow; what `shoal plan` announces.
[[nodiscard]] CopyCounts most_copies(const ExchangeShape& shape, double factor);

/// Bytes that this rank sends to other ranks in each call of the dispatcher, as the journal counts
/// them (all_to_all_v; `counts` as all_gather, its own part).
struct ExchangeVolume {
  std::int64_t counts = 0;             ///< in plan()
  std::int64_t choices = 0;            ///< in plan()
  std::int64_t dispatch = 0;           ///< x
  std::int64_t combine = 0;            ///< partial y
  std::int64_t combine_backward = 0;   ///< dy
  std::int64_t weight_backward = 0;    ///< the gradients of the routing weights
  std::int64_t dispatch_backward = 0;  ///< partial dx
  [[nodiscard]] std::int64_t forward() const { return choices + dispatch + combine; }
  [[nodiscard]] std::int64_t backward() const {
    return combine_backward + weight_backward + dispatch_backward;
  }
};
[[nodiscard]] ExchangeVolume exchange_volume(const ExchangeShape& shape, const CopyCounts& copies,
                                             std::int64_t hidden, DType elem);

}  // namespace shoal::parallel
