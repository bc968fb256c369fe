#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "shoal/data/token_shard.hpp"

namespace shoal::data {

struct DatasetOptions {
  std::int64_t cache_bytes = std::int64_t{1} << 30;  ///< of unpacked blocks
};

/// A folder of token shards, read as one stream of tokens in the shards' order. InputError names
/// folder, shard and position for anything wrong: missing or changed files, another vocabulary or
/// tokenizer than dataset.json says, damaged chunks, ids out of range.
class TokenDataset {
 public:
  explicit TokenDataset(std::filesystem::path folder, const DatasetOptions& options = {});
  ~TokenDataset();
  TokenDataset(TokenDataset&&) noexcept;
  TokenDataset& operator=(TokenDataset&&) noexcept;

  [[nodiscard]] const DatasetInfo& info() const;
  [[nodiscard]] const std::filesystem::path& folder() const;
  [[nodiscard]] std::filesystem::path tokenizer_path() const;
  [[nodiscard]] const std::vector<ShardSummary>& shards() const;
  [[nodiscard]] std::int64_t num_tokens() const;
  [[nodiscard]] std::int64_t num_documents() const;
  [[nodiscard]] std::int64_t text_bytes() const;
  /// Names the content: 32 hex digits made of the shards' hashes in order.
  [[nodiscard]] std::string fingerprint() const;

  /// Reads shards part, part + parts, ... and compares them with the hashes in dataset.json. Ranks
  /// share the work. This is what finds damage in a shard's HDF5 metadata, which no checksum inside
  /// the file covers and which the library may not survive: do it before the first read.
  void verify_hashes(std::int64_t part = 0, std::int64_t parts = 1) const;

  /// InputError unless a model with this vocabulary and tokenizer can train on the dataset. An
  /// empty hash skips that comparison.
  void require_compatible(std::int64_t vocab_size, const std::string& tokenizer_hash) const;

  /// Tokens [start, start + into.size()) of the stream. Safe to call from several threads.
  void read(std::int64_t start, std::span<std::int32_t> into) const;

  /// How many documents have each length in tokens (their end token included).
  [[nodiscard]] std::map<std::int64_t, std::int64_t> document_lengths() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::data
