#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace shoal::data {

/// One micro-batch on the host: B sequences of S tokens laid end to end, T = B * S.
struct BatchView {
  std::span<const std::int32_t> token_T;
  std::span<const std::int32_t> target_T;     ///< the token after each token
  std::span<const std::int32_t> doc_start_T;  ///< index in this batch of the document's first token
  std::span<const std::int32_t> position_T;   ///< t - doc_start_T[t]
  std::span<const std::uint8_t> mask_T;       ///< 1 where the target counts for the loss
  std::int64_t sequence = 0;                  ///< S
  std::int64_t first_token = 0;  ///< index of token 0 among all tokens of the global batch
  std::int64_t targets = 0;      ///< how many of mask_T are 1
};

/// Shape of a step's batch on one rank and how documents show in it. By default attention and
/// positions restart with each document, and predicting a document's first token from the end of
/// another one does not count. With cross_document a sequence is one stretch of text.
struct BatchLayout {
  std::int64_t sequence = 0;     ///< tokens a sequence
  std::int64_t sequences = 0;    ///< of all micro-batches together
  std::int64_t micro_batch = 0;  ///< sequences a view; divides `sequences`
  std::int32_t eos_id = 0;
  bool cross_document = false;
};

/// The arrays behind the micro-batches of a step, filled front to back. Allocated once.
class BatchArrays {
 public:
  explicit BatchArrays(const BatchLayout& layout);

  /// Starts over; `first_sequence` is the index of sequence 0 in the global batch.
  void clear(std::int64_t first_sequence);
  /// n + 1 tokens that follow each other: n inputs with their targets.
  void append(std::span<const std::int32_t> tokens);
  /// Tokens that count for nothing, up to the end of the sequence.
  void pad_sequence();
  [[nodiscard]] std::int64_t num_views() const { return layout_.sequences / layout_.micro_batch; }
  [[nodiscard]] BatchView view(std::int64_t index) const;
  /// Unmasked targets of all views.
  [[nodiscard]] std::int64_t targets() const;

 private:
  struct Pair {
    std::int32_t token, target;
    bool counts;
  };
  void push(const Pair& pair, bool new_document);

  BatchLayout layout_;
  std::int64_t first_sequence_ = 0;
  std::vector<std::int32_t> token_, target_, doc_start_, position_;
  std::vector<std::uint8_t> mask_;
};

}  // namespace shoal::data
