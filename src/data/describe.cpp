#include "shoal/data/describe.hpp"

#include <algorithm>
#include <cstdio>
#include <map>

#include "shoal/base/error.hpp"
#include "shoal/data/token_dataset.hpp"
#include "shoal/io/h5_file.hpp"

namespace shoal::data {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] std::string decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

/// Length below which a share of all documents lies.
[[nodiscard]] std::int64_t quantile(const std::map<std::int64_t, std::int64_t>& lengths,
                                    double share) {
  std::int64_t total = 0, seen = 0;
  for (const auto& [length, count] : lengths) total += count;
  for (const auto& [length, count] : lengths) {
    seen += count;
    if (static_cast<double>(seen) >= share * static_cast<double>(total)) return length;
  }
  return 0;
}

[[nodiscard]] std::string describe_lengths(const std::map<std::int64_t, std::int64_t>& lengths) {
  if (lengths.empty()) return "  no documents\n";
  std::int64_t documents = 0, tokens = 0;
  for (const auto& [length, count] : lengths) {
    documents += count;
    tokens += length * count;
  }
  return "  tokens a document: mean " +
         decimal(static_cast<double>(tokens) / static_cast<double>(documents)) + ", least " +
         std::to_string(lengths.begin()->first) + ", median " +
         std::to_string(quantile(lengths, 0.5)) + ", 90 % below " +
         std::to_string(quantile(lengths, 0.9)) + ", most " +
         std::to_string(lengths.rbegin()->first) + "\n";
}

[[nodiscard]] std::string describe_dataset(const fs::path& folder) {
  const TokenDataset dataset{folder};
  const DatasetInfo& info = dataset.info();
  std::string text = "token dataset " + folder.string() + "\n  " +
                     std::to_string(dataset.num_tokens()) + " tokens, " +
                     std::to_string(dataset.num_documents()) + " documents, " +
                     std::to_string(dataset.text_bytes()) + " bytes of text in " +
                     std::to_string(dataset.shards().size()) + " shards\n";
  if (dataset.num_tokens() > 0) {
    text += "  " +
            decimal(static_cast<double>(dataset.text_bytes()) /
                    static_cast<double>(dataset.num_tokens())) +
            " bytes a token\n";
  }
  text += "  vocabulary " + std::to_string(info.vocab_size) + ", end of document " +
          std::to_string(info.eos_id) + ", tokenizer " + info.tokenizer_file + " (" +
          info.tokenizer_hash + ")\n  source: " + info.source + "\n";
  text += describe_lengths(dataset.document_lengths());
  for (const ShardSummary& shard : dataset.shards()) {
    text += "  " + shard.file + ": " + std::to_string(shard.tokens) + " tokens, " +
            std::to_string(shard.documents) + " documents, " + std::to_string(shard.file_bytes) +
            " bytes, XXH3 " + shard.hash + "\n";
  }
  return text;
}

[[nodiscard]] std::string describe_shard(const fs::path& path) {
  const io::H5File file = io::H5File::open(path);
  const io::H5Dataset tokens = file.dataset("/tokens");
  const std::int64_t stored = tokens.stored_bytes();
  const std::int64_t plain = tokens.shape()[0] * io::size_of(tokens.type());
  std::string text = "token shard " + path.string() + "\n  " + std::to_string(tokens.shape()[0]) +
                     " tokens as " + std::string{io::name(tokens.type())} + ", " +
                     std::to_string(stored) + " of " + std::to_string(plain) +
                     " bytes after compression, " +
                     std::to_string(file.int_attribute("/", "num_documents")) + " documents\n";
  text += "  vocabulary " + std::to_string(file.int_attribute("/", "vocab_size")) +
          ", end of document " + std::to_string(file.int_attribute("/", "eos_id")) +
          ", tokenizer " + file.string_attribute("/", "tokenizer_hash") +
          "\n  source: " + file.string_attribute("/", "source") + "\n";
  const auto starts = file.dataset("/doc_offsets").read_all<std::uint64_t>();
  std::map<std::int64_t, std::int64_t> lengths;
  for (std::size_t d = 1; d < starts.size(); ++d) {
    ++lengths[static_cast<std::int64_t>(starts[d] - starts[d - 1])];
  }
  return text + describe_lengths(lengths);
}

}  // namespace

bool is_token_data(const fs::path& path) {
  if (fs::is_directory(path)) return fs::exists(path / kDatasetIndex);
  if (path.extension() != ".h5" || !fs::is_regular_file(path)) return false;
  return io::H5File::open(path).has("/tokens");
}

std::string describe(const fs::path& path) {
  require(fs::exists(path), "cannot open " + path.string() + ": no such file or folder");
  require(is_token_data(path), path.string() + " is neither a token dataset nor a token shard");
  return fs::is_directory(path) ? describe_dataset(path) : describe_shard(path);
}

}  // namespace shoal::data
