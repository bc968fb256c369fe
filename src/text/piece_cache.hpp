#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace shoal::text {

/// A piece of text as four words, zero-padded, so that comparing and hashing need no loop.
struct PieceKey {
  static constexpr std::size_t kMaxBytes = 32;
  std::array<std::uint64_t, 4> words{};
  std::uint32_t length = 0;
  std::uint32_t slot = 0;

  /// `piece` is not empty and at most kMaxBytes long.
  PieceKey() = default;
  PieceKey(std::string_view piece, std::uint32_t slot_mask)
      : length{static_cast<std::uint32_t>(piece.size())} {
    const char* p = piece.data();
    std::size_t left = piece.size();
    std::size_t w = 0;
    for (; left >= 8; left -= 8, p += 8) words[w++] = load<std::uint64_t>(p);
    if (left > 0) words[w] = load_tail(p, left);
    std::uint64_t h = mix(words[0] + length * 0x9E3779B97F4A7C15U);
    if (length > 8) h = mix(h ^ words[1]);
    if (length > 16) h = mix(mix(h ^ words[2]) ^ words[3]);
    slot = static_cast<std::uint32_t>(h >> 32) & slot_mask;
  }

 private:
  template <class Word>
  static Word load(const char* p) {
    Word word;
    std::memcpy(&word, p, sizeof(word));
    return word;
  }
  /// 1 to 7 bytes without reading past them: two loads that overlap.
  static std::uint64_t load_tail(const char* p, std::size_t n) {
    if (n >= 4) {
      const std::uint64_t high = load<std::uint32_t>(p + n - 4);
      return load<std::uint32_t>(p) | (high << (8 * (n - 4)));
    }
    const auto byte = [&](std::size_t i) {
      return std::uint64_t{static_cast<unsigned char>(p[i])};
    };
    return byte(0) | (byte(n / 2) << (8 * (n / 2))) | (byte(n - 1) << (8 * (n - 1)));
  }
  static std::uint64_t mix(std::uint64_t x) {
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93U;
    return x ^ (x >> 29);
  }
};

/// Direct-mapped table from short pieces to their ids, one cache line an entry: 4 MiB in all,
/// however long the run. A newcomer replaces the old entry, so that a change of subject is
/// followed.
class PieceCache {
 public:
  static constexpr std::size_t kMaxIds = 7;
  static constexpr std::uint32_t kSlotMask = (1U << 16) - 1;

  struct alignas(64) Entry {
    std::array<std::uint64_t, 4> words{};
    std::uint16_t length = 0;
    std::uint16_t num_ids = 0;
    std::array<std::uint32_t, kMaxIds> ids{};

    [[nodiscard]] bool holds(const PieceKey& key) const {
      if (length != key.length || words[0] != key.words[0]) return false;
      return length <= 8 ||
             (words[1] == key.words[1] && words[2] == key.words[2] && words[3] == key.words[3]);
    }
    void set(const PieceKey& key, const std::uint32_t* new_ids, std::size_t n) {
      words = key.words;
      length = static_cast<std::uint16_t>(key.length);
      num_ids = static_cast<std::uint16_t>(n);
      std::memcpy(ids.data(), new_ids, n * sizeof(ids[0]));
    }
  };

  Entry& operator[](const PieceKey& key) { return entries_[key.slot]; }
  void prefetch(const PieceKey& key) const { __builtin_prefetch(&entries_[key.slot]); }

 private:
  std::vector<Entry> entries_ = std::vector<Entry>(std::size_t{kSlotMask} + 1);
};

}  // namespace shoal::text
