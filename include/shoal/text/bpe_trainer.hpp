#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shoal/text/pretokenizer.hpp"
#include "shoal/text/tokenizer.hpp"

namespace shoal::text {

struct BpeTrainConfig {
  std::int64_t vocab_size = 32000;  ///< ids in all: special tokens, 256 bytes, merges
  std::int64_t min_frequency = 2;   ///< a pair seen less often is not merged
  std::string split = "llama3";     ///< gpt2 | llama3 | qwen2
  std::vector<std::string> special_tokens = {"<|endoftext|>"};  ///< ids 0, 1, ...; first = eos
  std::int64_t max_distinct_words = 4'000'000;  ///< of more, the most frequent are used
};

/// Appends every problem found.
void validate(const BpeTrainConfig& config, std::vector<std::string>& problems);

[[nodiscard]] SplitRule parse_split_rule(std::string_view name);  ///< throws InputError

/// How often each piece of the training text occurs. Counts of several ranks are merged by adding
/// every word of one to the other; the result does not depend on how the text was dealt out.
/// Pieces above kMaxWordBytes (base64, rulers) teach nothing and are not counted, so memory is at
/// most about (distinct words) x (40 + length) bytes; the caller bounds it by the text it counts.
class WordCounts {
 public:
  static constexpr std::int64_t kMaxWordBytes = 128;
  using Word = std::pair<std::string, std::int64_t>;

  explicit WordCounts(SplitRule rule);
  ~WordCounts();
  WordCounts(WordCounts&&) noexcept;
  WordCounts& operator=(WordCounts&&) noexcept;

  void add_text(std::string_view text);
  void add_word(std::string_view word, std::int64_t count);
  [[nodiscard]] std::int64_t distinct() const;
  /// Sorted by (count descending, bytes ascending), at most `limit`.
  [[nodiscard]] std::vector<Word> most_frequent(std::int64_t limit) const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
};

/// Byte-level BPE (Sennrich et al. 2016, over bytes as in GPT-2) on word counts. Merges the most
/// frequent pair, ties to the smaller pair of ids, so the result is a function of the counts alone
/// and equals Hugging Face's BpeTrainer with the byte alphabet. Ids: special tokens, then the 256
/// bytes in the order of their tokenizer.json spelling, then merges. Fewer than vocab_size ids come
/// out when no pair is left that occurs min_frequency times. Throws InputError on a bad config.
[[nodiscard]] std::unique_ptr<Tokenizer> train_bpe(const WordCounts& counts,
                                                   const BpeTrainConfig& config);

}  // namespace shoal::text
