#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/data/token_shard.hpp"

namespace shoal::data {

/// Validation documents of one shard on their way into the few shards of val/: a plain file of
/// (text bytes, number of tokens, tokens) records, all uint64 or uint32 of this machine.
class ValPart {
 public:
  explicit ValPart(std::string path) : path_{std::move(path)} {}
  void add(const Document& document);
  /// Writes what is buffered. A full disk is an Error.
  void flush();

 private:
  std::string path_;
  std::string buffer_;
};

[[nodiscard]] std::string val_part_path(const std::string& folder, std::int64_t shard);

/// All parts in order into `writer`; parts are removed. One document in memory at a time. False
/// when there is none.
[[nodiscard]] bool merge_val_parts(const std::string& folder, std::int64_t num_shards,
                                   DatasetWriter& writer);

}  // namespace shoal::data
