#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/text/hash.hpp"

namespace shoal::text {

/// What is done to each document before it is tokenised. All of it changes the numbers.
struct CleanConfig {
  std::string normalization = "nfc";     ///< nfc | nfkc | none
  bool strip_controls = true;            ///< CR LF -> LF, drop other controls and a leading BOM
  std::int64_t min_words = 0;            ///< drop shorter documents; 0 = off (published: 10)
  std::int64_t max_words = 0;            ///< drop longer documents; 0 = off (published: 512)
  double max_replacement_ratio = 0.001;  ///< U+FFFD per character, repaired ones included; 1 = off
  double max_control_ratio = 0.005;      ///< control characters per character; 1 = off
  double max_private_use_ratio = 0.01;   ///< private-use characters per character; 1 = off
  double max_badness = 0.02;             ///< garbled_score per character; <= 0 = off
  bool deduplicate = true;               ///< keep the first of documents that are equal (dedup_key)
};

/// Appends every problem found.
void validate(const CleanConfig& config, std::vector<std::string>& problems);

/// Counters of one run; a plain array, so that ranks add theirs with one all-reduce.
struct CleanReport {
  enum Counter : std::int64_t {
    documents_in,
    bytes_in,
    repaired_documents,    ///< had bytes that are not UTF-8
    repaired_sequences,    ///< broken sequences replaced by U+FFFD
    normalized_documents,  ///< were not in the normalisation form asked for
    controls_removed,      ///< characters
    dropped_empty,         ///< nothing but white space
    dropped_too_short,     ///< fewer than min_words
    dropped_too_long,      ///< more than max_words
    dropped_replacement,   ///< too many U+FFFD: another encoding or a broken file
    dropped_control,       ///< too many control characters: binary
    dropped_private_use,
    dropped_badness,    ///< looks like text decoded with the wrong encoding
    dropped_duplicate,  ///< counted by whoever compares the keys, not by Cleaner
    documents_kept,
    bytes_kept,
    num_counters
  };
  std::array<std::int64_t, num_counters> counts{};

  [[nodiscard]] std::int64_t operator[](Counter c) const { return counts[c]; }
  std::int64_t& operator[](Counter c) { return counts[c]; }
  CleanReport& operator+=(const CleanReport& other);
  [[nodiscard]] static std::string_view name(Counter c);  ///< "dropped_too_short", ...
  [[nodiscard]] std::string describe() const;             ///< one line a counter, for people
};

/// Cleans one document after another; keeps buffers, so use one object per thread.
class Cleaner {
 public:
  /// Throws InputError when the config is not valid.
  explicit Cleaner(CleanConfig config);

  /// Cleaned text of `raw` in `out` (overwritten), or false when a rule drops the document; each
  /// rule's count goes to `report`. What is returned is valid UTF-8. Order: repair,
  /// garbled-text and length rules, controls, normalisation. Cleaning twice changes nothing more.
  [[nodiscard]] bool clean(std::string_view raw, std::string& out, CleanReport& report);

 private:
  CleanConfig config_;
  std::string repaired_;
  std::string stripped_;
};

/// Key of exact duplicates: XXH3-128 of the text in NFC with each run of white space folded to one
/// space and none at the ends. `cleaned` must be valid UTF-8.
[[nodiscard]] Hash128 dedup_key(std::string_view cleaned);

/// Signs of text that was decoded with the wrong encoding, 2 points each: typical pairs and triples
/// ("Ã©", "â€™", "锟斤拷"), C1 controls, unassigned code points, Latin next to Cyrillic or Greek
/// letters, combining marks on something that cannot carry one. Divide by the number of characters.
/// After the idea of ftfy's "badness" (Speer 2019); tables are our own.
[[nodiscard]] std::int64_t garbled_score(std::string_view utf8);

}  // namespace shoal::text
