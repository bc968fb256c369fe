#pragma once
#include <cstdint>

#include "shoal/ops/attention.hpp"

/// Scratch of attention, stated once for the run and for the dry Exec that counts it.
namespace shoal::ops {

/// fp32 values: on the CPU one row for each thread, on the GPU one row for the whole call.
struct AttentionScratch {
  std::int64_t rows = 0;
  std::int64_t floats = 0;
};

/// 4-byte words in which kernels on warpgroup products keep the order of query tiles of at least
/// 128 tokens: two numbers, then windows of 256 tiles (hopper/attention_order.cuh).
[[nodiscard]] constexpr std::int64_t query_order_words(std::int64_t tokens) {
  constexpr std::int64_t kWindowTokens = std::int64_t{128} * 256;
  return 2 + (tokens + kWindowTokens - 1) / kWindowTokens * 256;
}

[[nodiscard]] AttentionScratch attention_forward_scratch(const Exec& exec,
                                                         const AttentionForward& args);
[[nodiscard]] AttentionScratch attention_backward_scratch(const Exec& exec,
                                                          const AttentionBackward& args);
[[nodiscard]] AttentionScratch attention_cached_scratch(const Exec& exec,
                                                        const AttentionCached& args);

[[nodiscard]] inline TensorView allocate(const Exec& exec, const AttentionScratch& size) {
  return scratch(exec, {size.rows, size.floats}, DType::f32);
}
inline void count_scratch(const Exec& exec, const AttentionScratch& size) {
  const ScratchScope scope{exec};
  (void)allocate(exec, size);
}

}  // namespace shoal::ops
