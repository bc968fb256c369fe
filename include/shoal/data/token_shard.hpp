#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "shoal/io/json.hpp"

namespace shoal::data {

/// What all shards of a token dataset share.
struct DatasetInfo {
  std::string name = "tokens";  ///< start of the shards' file names
  std::int64_t vocab_size = 0;
  std::uint32_t eos_id = 0;    ///< last token of every document
  std::string tokenizer_hash;  ///< Tokenizer::hash()
  std::string tokenizer_file;  ///< name inside the dataset's folder, e.g. "tokenizer.json"
  std::string source;          ///< where the text came from, for people
  io::Json cleaning = io::Json::object();  ///< options in force when the text was cleaned
};

/// One shard as dataset.json lists it.
struct ShardSummary {
  std::string file;
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t text_bytes = 0;  ///< of the cleaned text, for bits per byte
  std::int64_t file_bytes = 0;
  std::string hash;  ///< XXH3-128 of the file
};
[[nodiscard]] io::Json to_json(const ShardSummary& summary);
[[nodiscard]] ShardSummary shard_summary_from_json(const io::Json& json, std::string_view what);

/// "tokens-00003-of-00016.h5"
[[nodiscard]] std::string shard_file_name(const std::string& name, std::int64_t index,
                                          std::int64_t count);

struct Document {
  std::span<const std::uint32_t> tokens;  ///< the last one, and only that, is eos_id
  std::int64_t text_bytes = 0;
};

/// Writes one shard, a document at a time: /tokens (uint16 up to a vocabulary of 65536, else
/// uint32), /doc_offsets (uint64: start of each document, then the number of tokens). Shards are
/// independent, so ranks write theirs side by side. Memory: one open chunk of each dataset. The
/// file appears under `path` at finish(), complete and synced; a full disk throws before that.
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& path, const DatasetInfo& info);
  ~ShardWriter();
  ShardWriter(ShardWriter&&) noexcept;
  ShardWriter& operator=(ShardWriter&&) noexcept;

  /// A token id >= vocab_size is an InputError that names its position.
  void add(const Document& document);
  [[nodiscard]] std::int64_t tokens() const;
  [[nodiscard]] ShardSummary finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes a whole dataset from documents that arrive in order: a new shard begins when the open
/// one holds `tokens_per_shard`; finish() gives the shards their final names and writes
/// dataset.json last. A folder without dataset.json is not a dataset. To replace one safely, write
/// into io::FolderCommit::temporary().
class DatasetWriter {
 public:
  DatasetWriter(std::filesystem::path folder, DatasetInfo info, std::int64_t tokens_per_shard);
  void add(const Document& document);
  [[nodiscard]] std::vector<ShardSummary> finish();

 private:
  void close_shard();

  std::filesystem::path folder_;
  DatasetInfo info_;
  std::int64_t tokens_per_shard_;
  std::optional<ShardWriter> open_;
  std::vector<ShardSummary> done_;
};

/// Writes dataset.json: the info, the shards in their order, the sums. Call it on one rank after
/// every shard is finished.
void write_dataset_index(const std::filesystem::path& folder, const DatasetInfo& info,
                         std::span<const ShardSummary> shards);

inline constexpr std::string_view kDatasetIndex = "dataset.json";
inline constexpr std::int64_t kShardFormat = 1;

}  // namespace shoal::data
