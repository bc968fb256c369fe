#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/text/bpe_trainer.hpp"
#include "shoal/text/hash.hpp"

namespace shoal::text {

/// Open addressing over words that lie in blocks, so that a word costs its bytes and one slot.
struct WordCounts::Table {
  struct Slot {
    const char* bytes = nullptr;
    std::uint32_t length = 0;
    std::uint32_t tag = 0;  ///< upper hash bits: most misses end without a look at the bytes
    std::int64_t count = 0;
  };

  explicit Table(SplitRule rule) : split{make_pretokenizer(rule)} {}

  std::int64_t& count_of(std::string_view word) {
    if (2 * used >= slots.size()) grow();
    const std::uint64_t h = hash128(word).low;
    const auto tag = static_cast<std::uint32_t>(h >> 32);
    const std::uint64_t mask = slots.size() - 1;
    for (std::uint64_t i = h & mask;; i = (i + 1) & mask) {
      Slot& slot = slots[i];
      if (slot.bytes == nullptr) {
        slot = {store(word), static_cast<std::uint32_t>(word.size()), tag, 0};
        ++used;
        return slot.count;
      }
      if (slot.tag == tag && word == std::string_view{slot.bytes, slot.length}) return slot.count;
    }
  }

  void grow() {
    std::vector<Slot> old = std::exchange(slots, std::vector<Slot>(2 * slots.size()));
    const std::uint64_t mask = slots.size() - 1;
    for (const Slot& slot : old) {
      if (slot.bytes == nullptr) continue;
      std::uint64_t i = hash128({slot.bytes, slot.length}).low & mask;
      while (slots[i].bytes != nullptr) i = (i + 1) & mask;
      slots[i] = slot;
    }
  }

  const char* store(std::string_view word) {
    constexpr std::size_t kBlock = std::size_t{1} << 20;
    if (blocks.empty() || blocks.back().capacity() - blocks.back().size() < word.size()) {
      blocks.emplace_back();
      blocks.back().reserve(std::max(kBlock, word.size()));
    }
    std::vector<char>& block = blocks.back();  // never grows past its reserve: pointers stay valid
    block.insert(block.end(), word.begin(), word.end());
    return block.data() + block.size() - word.size();
  }

  std::unique_ptr<PreTokenizer> split;
  std::vector<std::string_view> pieces;
  std::vector<Slot> slots = std::vector<Slot>(1024);
  std::size_t used = 0;
  std::deque<std::vector<char>> blocks;
};

WordCounts::WordCounts(SplitRule rule) : table_{std::make_unique<Table>(rule)} {}
WordCounts::~WordCounts() = default;
WordCounts::WordCounts(WordCounts&&) noexcept = default;
WordCounts& WordCounts::operator=(WordCounts&&) noexcept = default;

void WordCounts::add_text(std::string_view text) {
  table_->pieces.clear();
  table_->split->split(text, table_->pieces);
  for (const std::string_view piece : table_->pieces) {
    if (static_cast<std::int64_t>(piece.size()) <= kMaxWordBytes) ++table_->count_of(piece);
  }
}

void WordCounts::add_word(std::string_view word, std::int64_t count) {
  expect(!word.empty() && count >= 0, "a word has bytes and a count");
  table_->count_of(word) += count;
}

std::int64_t WordCounts::distinct() const {
  return static_cast<std::int64_t>(table_->used);
}

std::vector<WordCounts::Word> WordCounts::most_frequent(std::int64_t limit) const {
  std::vector<const Table::Slot*> order;
  for (const Table::Slot& slot : table_->slots) {
    if (slot.bytes != nullptr) order.push_back(&slot);
  }
  const auto bytes = [](const Table::Slot* s) { return std::string_view{s->bytes, s->length}; };
  const auto before = [&](const Table::Slot* a, const Table::Slot* b) {
    return a->count != b->count ? a->count > b->count : bytes(a) < bytes(b);
  };
  const auto n = std::min<std::int64_t>(limit, static_cast<std::int64_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + n, order.end(), before);
  std::vector<Word> words;
  words.reserve(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) words.emplace_back(bytes(order[i]), order[i]->count);
  return words;
}

}  // namespace shoal::text
