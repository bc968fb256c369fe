#pragma once
#include <span>
#include <vector>

#include "shoal/nn/attention.hpp"
#include "shoal/tensor/view.hpp"

namespace shoal::nn {

class Model;

/// Generation session over one sequence with a key/value cache in persistent arena memory (kind
/// cache). The logits equal those of the full forward; dynamic heads included. The model must be
/// whole (embedding and head) and outlive the session.
class Generator {
 public:
  /// Room for `max_tokens` tokens, at most max_position_embeddings; at most `max_chunk` of them are
  /// run at once. Every call must stay within the Exec's scratch: plan it on a dry Exec.
  Generator(const Exec& exec, const Model& model, std::int64_t max_tokens,
            std::int64_t max_chunk = 256);

  /// Appends tokens (a prompt, or the token just drawn) and returns the logits [V] of what follows
  /// the last one. Waits for the device. InputError when the cache is full or an id out of range.
  std::vector<float> append(const Exec& exec, std::span<const std::int32_t> tokens);
  /// Tokens held so far.
  [[nodiscard]] std::int64_t length() const { return length_; }
  [[nodiscard]] std::int64_t capacity() const { return max_tokens_; }
  void clear() { length_ = 0; }

 private:
  void run_chunk(const Exec& exec, std::span<const std::int32_t> tokens, bool last);

  const Model* model_;
  std::int64_t max_tokens_;
  std::int64_t max_chunk_;
  std::int64_t length_ = 0;
  std::vector<AttentionCache> caches_;  // one for each layer
  TensorView token_T_, position_T_, doc_start_T_, gather_k_, gather_v_, last_row_, logits_V_;
};

}  // namespace shoal::nn
