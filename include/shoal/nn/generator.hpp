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
  struct Room {
    std::int64_t max_tokens = 0;   ///< at most max_position_embeddings
    std::int64_t max_chunk = 256;  ///< tokens run at once: bounds the scratch of a long prompt
  };
  /// Takes the cache. The scratch of append() is counted by calling it on a dry Exec with
  /// max_tokens tokens (any ids).
  Generator(const Exec& exec, const Model& model, const Room& room);

  /// Appends tokens (a prompt, or the token just drawn) and returns the logits [V] of what follows
  /// the last one. Waits for the device. InputError when the cache is full or an id out of range.
  std::vector<float> append(const Exec& exec, std::span<const std::int32_t> tokens);
  /// Tokens held so far.
  [[nodiscard]] std::int64_t length() const { return length_; }
  [[nodiscard]] std::int64_t capacity() const { return room_.max_tokens; }
  void clear() { length_ = 0; }

 private:
  void run_chunk(const Exec& exec, std::span<const std::int32_t> tokens, bool last);

  const Model* model_;
  Room room_;
  std::int64_t length_ = 0;
  std::vector<AttentionCache> caches_;  // one for each layer
  TensorView token_T_, position_P_, zero_P_, k_slot_TG_, v_slot_TG_, one_, logits_;
};

}  // namespace shoal::nn
