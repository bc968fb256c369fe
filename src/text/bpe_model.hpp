#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/piece_cache.hpp"

namespace shoal::text {

/// One merge rule: tokens `left` and `right` become `result`; earlier rules win.
struct Merge {
  std::uint32_t left, right, result;
};

/// Byte-pair merges over one piece of text. Immutable but for a cache of pieces.
class BpeModel {
 public:
  struct Parts {
    std::array<std::uint32_t, 256> byte_ids;
    std::vector<Merge> merges;  ///< in order of rank
    /// Not empty with ignore_merges: a piece that is a token as a whole is not taken apart.
    std::unordered_map<std::string, std::uint32_t> whole_pieces;
  };
  explicit BpeModel(Parts parts);
  ~BpeModel();

  /// Appends the ids of all `pieces`.
  void encode(const std::vector<std::string_view>& pieces, std::vector<std::uint32_t>& ids) const;
  [[nodiscard]] bool bytes_only() const { return parts_.merges.empty(); }
  [[nodiscard]] std::uint32_t byte_id(unsigned char byte) const { return parts_.byte_ids[byte]; }

 private:
  struct Rule {
    std::uint32_t rank, result;
  };
  static constexpr std::uint32_t kNoRank = 0xFFFFFFFFU;

  [[nodiscard]] Rule find(std::uint32_t left, std::uint32_t right) const;
  static constexpr std::size_t kBatch = 16;
  void encode_batch(std::span<const std::string_view> pieces,
                    std::vector<std::uint32_t>& ids) const;
  void encode_piece(std::string_view piece, std::vector<std::uint32_t>& ids) const;
  void merge_short(std::string_view piece, std::vector<std::uint32_t>& ids) const;
  void merge_long(std::string_view piece, std::vector<std::uint32_t>& ids) const;

  Parts parts_;
  /// Open addressing, power of two, at most half full: (left, right) -> rule.
  struct Slot {
    std::uint64_t key;
    Rule rule;
  };
  std::vector<Slot> slots_;
  std::uint64_t mask_ = 0;
  mutable std::mutex cache_mutex_;
  std::unique_ptr<PieceCache> cache_;
};

}  // namespace shoal::text
