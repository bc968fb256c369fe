#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::data {

/// Which files to read and what a document is.
struct SourceConfig {
  std::vector<std::string> inputs;  ///< files, or folders (everything below, sorted by path)
  std::string format = "auto";      ///< auto: .jsonl and .ndjson are jsonl | text | jsonl
  std::string text_field = "text";  ///< member of a jsonl line that holds the document
  std::string documents = "file";   ///< in text files: file | paragraph | separator
  std::string separator = "<|endoftext|>";  ///< a line of exactly this text ends a document
  std::int64_t max_document_mb = 16;        ///< longer text files are cut at a line end; 1 to 1024
};

/// Appends every problem found. Does not touch the disk.
void validate(const SourceConfig& config, std::vector<std::string>& problems);

/// Counters of reading; a plain array, so that ranks add theirs with one all-reduce.
struct SourceReport {
  enum Counter : std::int64_t {
    files_read,
    files_binary,        ///< skipped in folders: NUL bytes or mostly controls
    files_empty,         ///< skipped in folders
    files_unreadable,    ///< skipped in folders: no permission, damaged compression, overlong line
    links_skipped,       ///< symbolic links inside folders
    documents_cut,       ///< pieces beyond the first of documents above max_document_mb
    lines_malformed,     ///< jsonl lines that are no JSON object
    lines_without_text,  ///< jsonl lines whose text field is missing, empty or no string
    bytes_read,          ///< after decompression
    num_counters
  };
  std::array<std::int64_t, num_counters> counts{};

  /// What was wrong with unreadable files, the first few; of this rank only.
  std::vector<std::string> problems;

  [[nodiscard]] std::int64_t operator[](Counter c) const { return counts[c]; }
  std::int64_t& operator[](Counter c) { return counts[c]; }
  /// Adds the counters.
  SourceReport& operator+=(const SourceReport& other);
  [[nodiscard]] static std::string_view name(Counter c);
};

/// A file, or a range of one that can be read from the middle: lines or documents that begin in
/// [begin, end) belong to it, whoever reads their last byte.
struct SourcePart {
  enum class Kind : std::int64_t { whole_file, paragraphs, separated, jsonl };
  std::string path;
  std::int64_t begin = 0;
  std::int64_t end = 0;  ///< of the file as it lies on disk
  Kind kind = Kind::whole_file;
  bool packed = false;       ///< gzip or zstd: read from the start to the end
  bool from_folder = false;  ///< problems skip the file instead of ending the run
};

/// All parts in document order, dealt to shards by size alone.
struct SourcePlan {
  std::vector<SourcePart> parts;
  std::vector<std::int64_t> shard_begin;  ///< first part of each shard, then parts.size()
  std::int64_t bytes_on_disk = 0;
  std::int64_t text_bytes = 0;  ///< estimate: packed files count four times
  SourceReport report;          ///< what the listing itself skipped

  [[nodiscard]] std::int64_t num_shards() const {
    return static_cast<std::int64_t>(shard_begin.size()) - 1;
  }
};

/// Looks at the inputs; `shard_bytes` 0 = a 32nd of the corpus within 4 to 256 MiB. Throws one
/// InputError that names every input that is missing, unreadable, empty or binary.
[[nodiscard]] SourcePlan plan_source(const SourceConfig& config, std::int64_t shard_bytes);

[[nodiscard]] std::string to_text(const SourcePlan& plan);  ///< to send it to other ranks
[[nodiscard]] SourcePlan plan_from_text(const std::string& text);

/// Calls `take` with every document of `part`, in order, as raw bytes. Memory: two documents and
/// reading buffers. Throws InputError for a part that the user named himself.
void read_documents(const SourceConfig& config, const SourcePart& part, SourceReport& report,
                    const std::function<void(std::string_view)>& take);

}  // namespace shoal::data
