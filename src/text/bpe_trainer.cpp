#include "shoal/text/bpe_trainer.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <queue>
#include <unordered_map>
#include <utility>

#include "shoal/base/error.hpp"
#include "text/byte_alphabet.hpp"
#include "text/tokenizer_json.hpp"

namespace shoal::text {
namespace {

using Id = std::uint32_t;

std::uint64_t key_of(Id left, Id right) {
  return (std::uint64_t{left} << 32) | right;
}

/// The vocabulary while it grows. Strings are unique: a merge that spells a known token reuses it.
class Vocabulary {
 public:
  explicit Vocabulary(const std::vector<std::string>& special_tokens)
      : num_special_{special_tokens.size()} {
    for (const std::string& token : special_tokens) add(token);
    std::array<int, 256> bytes{};
    std::iota(bytes.begin(), bytes.end(), 0);
    const ByteAlphabet& alphabet = ByteAlphabet::instance();
    std::sort(bytes.begin(), bytes.end(),
              [&](int a, int b) { return alphabet.spelling(a) < alphabet.spelling(b); });
    for (const int b : bytes) byte_ids_[b] = add(std::string(1, static_cast<char>(b)));
  }

  Id add(const std::string& token) {
    const auto [at, is_new] = ids_.try_emplace(token, static_cast<Id>(tokens_.size()));
    if (is_new) tokens_.push_back(token);
    return at->second;
  }
  /// Text must never be able to become a special token by merging.
  [[nodiscard]] bool spells_special(const std::string& token) const {
    const auto end = tokens_.begin() + static_cast<std::ptrdiff_t>(num_special_);
    return std::find(tokens_.begin(), end, token) != end;
  }
  [[nodiscard]] Id byte_id(char b) const { return byte_ids_[static_cast<unsigned char>(b)]; }
  [[nodiscard]] const std::vector<std::string>& tokens() const { return tokens_; }
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }

 private:
  std::size_t num_special_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, Id> ids_;
  std::array<Id, 256> byte_ids_{};
};

class Trainer {
 public:
  Trainer(const std::vector<WordCounts::Word>& words, const BpeTrainConfig& config)
      : config_{config}, vocabulary_{config.special_tokens} {
    for (const auto& [bytes, count] : words) add_word(bytes, count);
    for (const auto& [key, pair] : pairs_) queue_.push({pair.count, key});
  }

  void run() {
    while (vocabulary_.size() < config_.vocab_size && !queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      Pair& pair = pairs_.at(top.key);
      if (top.count != pair.count) {  // counts only fall while a candidate waits: look again later
        queue_.push({pair.count, top.key});
        continue;
      }
      if (top.count < std::max<std::int64_t>(config_.min_frequency, 1)) break;
      merge_everywhere(top.key, std::move(pair.words));
    }
  }

  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }
  [[nodiscard]] const std::vector<Merge>& merges() const { return merges_; }

 private:
  struct Word {
    std::size_t first;  ///< into symbols_
    std::uint32_t length;
    std::int64_t count;
  };
  struct Pair {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  ///< where it may occur; may repeat a word
  };
  struct Candidate {
    std::int64_t count;
    std::uint64_t key;
    bool operator<(const Candidate& o) const {  // the queue's top: highest count, smallest pair
      return count != o.count ? count < o.count : key > o.key;
    }
  };

  void add_word(std::string_view bytes, std::int64_t count) {
    const auto index = static_cast<std::uint32_t>(words_.size());
    words_.push_back({symbols_.size(), static_cast<std::uint32_t>(bytes.size()), count});
    for (const char b : bytes) symbols_.push_back(vocabulary_.byte_id(b));
    const Id* s = symbols_.data() + words_.back().first;
    for (std::size_t i = 0; i + 1 < bytes.size(); ++i) change(s[i], s[i + 1], count, index);
  }

  void change(Id left, Id right, std::int64_t by, std::uint32_t word) {
    const std::uint64_t key = key_of(left, right);
    Pair& pair = pairs_[key];
    pair.count += by;
    if (by <= 0) return;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    touched_.push_back(key);
  }

  void merge_everywhere(std::uint64_t key, std::vector<std::uint32_t> where) {
    const auto left = static_cast<Id>(key >> 32);
    const auto right = static_cast<Id>(key);
    const std::string spelling = vocabulary_.tokens()[left] + vocabulary_.tokens()[right];
    if (vocabulary_.spells_special(spelling)) return;
    const Id result = vocabulary_.add(spelling);
    merges_.push_back({left, right, result});
    touched_.clear();
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    for (const std::uint32_t index : where) merge_in(index, merges_.back());
    std::sort(touched_.begin(), touched_.end());
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    for (const std::uint64_t pair : touched_) {
      if (pairs_[pair].count > 0) queue_.push({pairs_[pair].count, pair});
    }
  }

  void merge_in(std::uint32_t index, const Merge& m) {
    Word& word = words_[index];
    Id* s = symbols_.data() + word.first;
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < word.length; ++i) {
      if (s[i] != m.left || i + 1 >= word.length || s[i + 1] != m.right) {
        s[kept++] = s[i];
        continue;
      }
      if (kept > 0) {
        change(s[kept - 1], m.left, -word.count, index);
        change(s[kept - 1], m.result, word.count, index);
      }
      if (i + 2 < word.length) {
        change(m.right, s[i + 2], -word.count, index);
        change(m.result, s[i + 2], word.count, index);
      }
      s[kept++] = m.result;
      ++i;
    }
    word.length = kept;
  }

  const BpeTrainConfig& config_;
  Vocabulary vocabulary_;
  std::vector<Merge> merges_;
  std::vector<Id> symbols_;
  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, Pair> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<std::uint64_t> touched_;
};

}  // namespace

void validate(const BpeTrainConfig& config, std::vector<std::string>& problems) {
  const auto minimum = static_cast<std::int64_t>(config.special_tokens.size()) + 256;
  if (config.vocab_size < minimum || config.vocab_size > (std::int64_t{1} << 24)) {
    problems.push_back("vocab_size is " + std::to_string(config.vocab_size) + "; allowed: " +
                       std::to_string(minimum) + " (special tokens and bytes) to 16777216");
  }
  if (config.min_frequency < 1) problems.emplace_back("min_frequency must be at least 1");
  if (config.max_distinct_words < 1) problems.emplace_back("max_distinct_words must be at least 1");
  if (config.special_tokens.empty()) {
    problems.emplace_back("special_tokens must name at least the token that ends a document");
  }
  for (std::size_t i = 0; i < config.special_tokens.size(); ++i) {
    const std::string& token = config.special_tokens[i];
    const auto begin = config.special_tokens.begin();
    const bool repeated = std::find(begin, begin + static_cast<std::ptrdiff_t>(i), token) !=
                          begin + static_cast<std::ptrdiff_t>(i);
    if (token.size() < 2 || repeated) {
      problems.push_back("special_tokens: \"" + token + "\" must be unique and longer than a byte");
    }
  }
  if (config.split != "gpt2" && config.split != "llama3" && config.split != "qwen2") {
    problems.push_back("split is \"" + config.split + "\"; allowed: gpt2, llama3, qwen2");
  }
}

SplitRule parse_split_rule(std::string_view name) {
  if (name == "gpt2") return SplitRule::gpt2;
  if (name == "llama3") return SplitRule::llama3;
  require(name == "qwen2", "split is \"" + std::string{name} + "\"; allowed: gpt2, llama3, qwen2");
  return SplitRule::qwen2;
}

std::unique_ptr<Tokenizer> train_bpe(const WordCounts& counts, const BpeTrainConfig& config) {
  std::vector<std::string> problems;
  validate(config, problems);
  if (!problems.empty()) throw InputError{problems.front()};
  Trainer trainer{counts.most_frequent(config.max_distinct_words), config};
  trainer.run();
  std::vector<AddedToken> added;
  for (const std::string& token : config.special_tokens) {
    added.push_back({.id = static_cast<Id>(added.size()), .content = token, .special = true});
  }
  return parse_tokenizer(
      write_tokenizer_json({.split_regex = split_rule_regex(parse_split_rule(config.split)),
                            .added_tokens = added,
                            .token_bytes = trainer.vocabulary().tokens(),
                            .merges = trainer.merges()}),
      {.name = "trained tokenizer", .eos_token = config.special_tokens.front()});
}

}  // namespace shoal::text
