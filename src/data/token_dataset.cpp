#include "shoal/data/token_dataset.hpp"

#include <algorithm>
#include <list>
#include <mutex>
#include <tuple>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/io/h5_file.hpp"
#include "shoal/io/hash.hpp"

namespace shoal::data {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kBlockTokens = 32768;  ///< what is unpacked and cached at a time
constexpr std::size_t kMaxOpenShards = 64;

[[nodiscard]] DatasetInfo read_info(const io::Json& json, const std::string& what) {
  const auto version = io::get_field<std::int64_t>(json, "format_version", what);
  require(version == kShardFormat, what + ": format " + std::to_string(version) +
                                       ", this version of Shoal reads " +
                                       std::to_string(kShardFormat));
  DatasetInfo info;
  info.name = io::get_field<std::string>(json, "name", what);
  info.vocab_size = io::get_field<std::int64_t>(json, "vocab_size", what);
  info.eos_id = io::get_field<std::uint32_t>(json, "eos_id", what);
  info.tokenizer_hash = io::get_field<std::string>(json, "tokenizer_hash", what);
  info.tokenizer_file = io::get_field<std::string>(json, "tokenizer_file", what);
  info.source = io::get_field<std::string>(json, "source", what);
  info.cleaning = json.value("cleaning", io::Json::object());
  require(info.vocab_size > 0 && info.eos_id < info.vocab_size,
          what + ": vocab_size must be positive and eos_id below it");
  return info;
}

[[nodiscard]] std::vector<ShardSummary> read_shards(const io::Json& json, const std::string& what) {
  const auto found = json.find("shards");
  require(found != json.end() && found->is_array() && !found->empty(),
          what + ": \"shards\" must be a list with at least one entry");
  std::vector<ShardSummary> shards;
  for (const io::Json& entry : *found) shards.push_back(shard_summary_from_json(entry, what));
  return shards;
}

void check_size(const fs::path& folder, const ShardSummary& shard) {
  const fs::path path = folder / shard.file;
  std::error_code code;
  const auto size = fs::file_size(path, code);
  require(!code, "cannot open shard " + path.string() + ": " + code.message());
  require(static_cast<std::int64_t>(size) == shard.file_bytes,
          "shard " + path.string() + " has " + std::to_string(size) + " bytes, dataset.json says " +
              std::to_string(shard.file_bytes));
}

struct OpenShard {
  io::H5File file;
  io::H5Dataset tokens;
};

[[nodiscard]] OpenShard open_shard(const fs::path& path, const ShardSummary& summary,
                                   const DatasetInfo& info) {
  io::H5File file = io::H5File::open(path);
  const auto vocab = file.int_attribute("/", "vocab_size");
  require(vocab == info.vocab_size, "shard " + path.string() + " has a vocabulary of " +
                                        std::to_string(vocab) + ", its dataset.json says " +
                                        std::to_string(info.vocab_size));
  const auto tokenizer = file.string_attribute("/", "tokenizer_hash");
  require(tokenizer == info.tokenizer_hash,
          "shard " + path.string() + " was made with another tokenizer (" + tokenizer +
              ") than its dataset.json says (" + info.tokenizer_hash + ")");
  io::H5Dataset tokens = file.dataset("/tokens");
  const bool narrow = tokens.type() == io::H5Type::u16;
  require((narrow || tokens.type() == io::H5Type::u32) && tokens.shape() == Shape{summary.tokens},
          "shard " + path.string() + ": /tokens must hold " + std::to_string(summary.tokens) +
              " elements of u16 or u32");
  return {std::move(file), std::move(tokens)};
}

}  // namespace

/// Open files and unpacked blocks, both least recently used first out.
struct TokenDataset::Impl {
  struct BlockKey {
    std::int64_t shard, block;
    bool operator<(const BlockKey& other) const {
      return std::tie(shard, block) < std::tie(other.shard, other.block);
    }
  };
  struct Block {
    std::vector<std::int32_t> tokens;
    std::list<BlockKey>::iterator use;
  };

  fs::path folder;
  DatasetOptions options;
  DatasetInfo info;
  std::vector<ShardSummary> shards;
  std::vector<std::int64_t> first_token;  ///< of each shard, then the total
  std::mutex mutex;
  std::list<std::pair<std::int64_t, OpenShard>> open;
  std::map<BlockKey, Block> blocks;
  std::list<BlockKey> uses;

  [[nodiscard]] const OpenShard& shard_file(std::int64_t shard) {
    const auto found = std::find_if(open.begin(), open.end(),
                                    [shard](const auto& entry) { return entry.first == shard; });
    if (found != open.end()) {
      open.splice(open.begin(), open, found);
    } else {
      if (open.size() >= kMaxOpenShards) open.pop_back();
      const ShardSummary& summary = shards[static_cast<std::size_t>(shard)];
      open.emplace_front(shard, open_shard(folder / summary.file, summary, info));
    }
    return open.front().second;
  }

  [[nodiscard]] std::vector<std::int32_t> unpack(BlockKey key) {
    const ShardSummary& summary = shards[static_cast<std::size_t>(key.shard)];
    const std::int64_t start = key.block * kBlockTokens;
    const std::int64_t count = std::min(kBlockTokens, summary.tokens - start);
    const io::H5Dataset& stored = shard_file(key.shard).tokens;
    std::vector<std::int32_t> tokens;
    if (stored.type() == io::H5Type::u16) {
      const auto ids = stored.read_as<std::uint16_t>({{start}, {count}});
      tokens.assign(ids.begin(), ids.end());
    } else {
      const auto ids = stored.read_as<std::uint32_t>({{start}, {count}});
      tokens.assign(ids.begin(), ids.end());
    }
    const auto bad = std::find_if(tokens.begin(), tokens.end(), [this](std::int32_t id) {
      return id < 0 || id >= info.vocab_size;
    });
    require(bad == tokens.end(), "shard " + (folder / summary.file).string() + ": token " +
                                     std::to_string(start + (bad - tokens.begin())) +
                                     " has an id that is not below the vocabulary size " +
                                     std::to_string(info.vocab_size));
    return tokens;
  }

  [[nodiscard]] const std::vector<std::int32_t>& block(BlockKey key) {
    const auto found = blocks.find(key);
    if (found != blocks.end()) {
      uses.splice(uses.begin(), uses, found->second.use);
      return found->second.tokens;
    }
    const std::int64_t block_bytes = kBlockTokens * std::int64_t{sizeof(std::int32_t)};
    const auto limit = std::max<std::int64_t>(options.cache_bytes / block_bytes, 1);
    while (std::ssize(blocks) >= limit) {
      blocks.erase(uses.back());
      uses.pop_back();
    }
    auto tokens = unpack(key);
    uses.push_front(key);
    return blocks.emplace(key, Block{std::move(tokens), uses.begin()}).first->second.tokens;
  }
};

TokenDataset::TokenDataset(fs::path folder, const DatasetOptions& options) {
  const fs::path index = folder / kDatasetIndex;
  require(fs::exists(index), folder.string() + " is not a token dataset: it has no " +
                                 std::string{kDatasetIndex} + " (`shoal prepare` writes one)");
  const io::Json json = io::read_json_file(index);
  DatasetInfo info = read_info(json, index.string());
  auto shards = read_shards(json, index.string());
  std::vector<std::int64_t> first{0};
  for (const ShardSummary& shard : shards) {
    check_size(folder, shard);
    first.push_back(first.back() + shard.tokens);
  }
  impl_ = std::make_unique<Impl>();
  impl_->folder = std::move(folder);
  impl_->options = options;
  impl_->info = std::move(info);
  impl_->shards = std::move(shards);
  impl_->first_token = std::move(first);
}

TokenDataset::~TokenDataset() = default;
TokenDataset::TokenDataset(TokenDataset&&) noexcept = default;
TokenDataset& TokenDataset::operator=(TokenDataset&&) noexcept = default;

const DatasetInfo& TokenDataset::info() const {
  return impl_->info;
}
const fs::path& TokenDataset::folder() const {
  return impl_->folder;
}
fs::path TokenDataset::tokenizer_path() const {
  return impl_->folder / impl_->info.tokenizer_file;
}
const std::vector<ShardSummary>& TokenDataset::shards() const {
  return impl_->shards;
}
std::int64_t TokenDataset::num_tokens() const {
  return impl_->first_token.back();
}

std::int64_t TokenDataset::num_documents() const {
  std::int64_t sum = 0;
  for (const ShardSummary& shard : impl_->shards) sum += shard.documents;
  return sum;
}

std::int64_t TokenDataset::text_bytes() const {
  std::int64_t sum = 0;
  for (const ShardSummary& shard : impl_->shards) sum += shard.text_bytes;
  return sum;
}

std::string TokenDataset::fingerprint() const {
  std::string all;
  for (const ShardSummary& shard : impl_->shards) all += shard.hash + "\n";
  return io::hash_text(all);
}

void TokenDataset::verify_hashes(std::int64_t part, std::int64_t parts) const {
  expect(parts >= 1 && part >= 0 && part < parts, "no such part of the shards");
  for (std::int64_t s = part; s < std::ssize(impl_->shards); s += parts) {
    const ShardSummary& shard = impl_->shards[static_cast<std::size_t>(s)];
    const std::string hash = io::hash_file(impl_->folder / shard.file);
    require(hash == shard.hash, "shard " + (impl_->folder / shard.file).string() +
                                    " has the hash " + hash + ", dataset.json says " + shard.hash);
  }
}

void TokenDataset::require_compatible(std::int64_t vocab_size,
                                      const std::string& tokenizer_hash) const {
  require(impl_->info.vocab_size <= vocab_size,
          "dataset " + impl_->folder.string() + " has a vocabulary of " +
              std::to_string(impl_->info.vocab_size) + ", the model's is only " +
              std::to_string(vocab_size));
  require(tokenizer_hash.empty() || tokenizer_hash == impl_->info.tokenizer_hash,
          "dataset " + impl_->folder.string() + " was made with the tokenizer " +
              impl_->info.tokenizer_hash + ", the model uses " + tokenizer_hash);
}

void TokenDataset::read(std::int64_t start, std::span<std::int32_t> into) const {
  const std::int64_t end = start + std::ssize(into);
  expect(start >= 0 && end <= num_tokens(), "tokens outside the dataset were asked for");
  const std::lock_guard lock{impl_->mutex};
  const auto& first = impl_->first_token;
  std::int64_t shard = std::upper_bound(first.begin(), first.end(), start) - first.begin() - 1;
  while (start < end) {
    const std::int64_t local = start - first[static_cast<std::size_t>(shard)];
    if (local >= impl_->shards[static_cast<std::size_t>(shard)].tokens) {
      ++shard;
      continue;
    }
    const auto& block = impl_->block({shard, local / kBlockTokens});
    const std::int64_t at = local % kBlockTokens;
    const std::int64_t count = std::min(end - start, std::ssize(block) - at);
    std::copy_n(block.begin() + at, count, into.begin());
    into = into.subspan(static_cast<std::size_t>(count));
    start += count;
  }
}

std::map<std::int64_t, std::int64_t> TokenDataset::document_lengths() const {
  std::map<std::int64_t, std::int64_t> lengths;
  const std::lock_guard lock{impl_->mutex};
  for (std::int64_t s = 0; s < std::ssize(impl_->shards); ++s) {
    const ShardSummary& summary = impl_->shards[static_cast<std::size_t>(s)];
    const io::H5Dataset offsets = impl_->shard_file(s).file.dataset("/doc_offsets");
    require(offsets.shape() == Shape{summary.documents + 1},
            "shard " + summary.file + ": /doc_offsets must hold one entry a document and the end");
    const auto starts = offsets.read_all<std::uint64_t>();
    for (std::size_t d = 1; d < starts.size(); ++d) {
      ++lengths[static_cast<std::int64_t>(starts[d] - starts[d - 1])];
    }
  }
  return lengths;
}

}  // namespace shoal::data
