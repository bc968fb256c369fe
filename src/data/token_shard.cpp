#include "shoal/data/token_shard.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/h5_file.hpp"
#include "shoal/io/hash.hpp"

namespace shoal::data {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kMaxVocab16 = 65536;
/// Small chunks: a random window of the training order unpacks one or two of them.
constexpr io::Storage kStorage{.level = 3, .chunk_bytes = 1 << 16};

[[nodiscard]] io::H5Type token_type(std::int64_t vocab_size) {
  return vocab_size <= kMaxVocab16 ? io::H5Type::u16 : io::H5Type::u32;
}

}  // namespace

io::Json to_json(const ShardSummary& s) {
  return {{"file", s.file},
          {"tokens", s.tokens},
          {"documents", s.documents},
          {"text_bytes", s.text_bytes},
          {"file_bytes", s.file_bytes},
          {"xxh3", s.hash}};
}

ShardSummary shard_summary_from_json(const io::Json& json, std::string_view what) {
  ShardSummary s;
  s.file = io::get_field<std::string>(json, "file", what);
  s.tokens = io::get_field<std::int64_t>(json, "tokens", what);
  s.documents = io::get_field<std::int64_t>(json, "documents", what);
  s.text_bytes = io::get_field<std::int64_t>(json, "text_bytes", what);
  s.file_bytes = io::get_field<std::int64_t>(json, "file_bytes", what);
  s.hash = io::get_field<std::string>(json, "xxh3", what);
  require(s.tokens >= 0 && s.documents >= 0 && s.text_bytes >= 0 && s.file_bytes >= 0,
          std::string{what} + ": shard " + s.file + " has a negative count");
  require(s.file.find('/') == std::string::npos && !s.file.empty() && s.file[0] != '.',
          std::string{what} + ": shard \"" + s.file + "\" is not a plain file name");
  return s;
}

std::string shard_file_name(const std::string& name, std::int64_t index, std::int64_t count) {
  char suffix[64];
  std::snprintf(suffix, sizeof suffix, "-%05lld-of-%05lld.h5", static_cast<long long>(index),
                static_cast<long long>(count));
  return name + suffix;
}

struct ShardWriter::Impl {
  fs::path path;
  DatasetInfo info;
  io::H5File file;
  io::H5Stream tokens;
  io::H5Stream offsets;
  std::int64_t num_tokens = 0;
  std::int64_t num_documents = 0;
  std::int64_t text_bytes = 0;
  std::vector<std::uint16_t> narrow = {};

  void check(std::span<const std::uint32_t> ids) const {
    expect(!ids.empty() && std::find(ids.begin(), ids.end(), info.eos_id) == ids.end() - 1,
           "a document ends with its only end-of-document token");
    const auto bad = std::find_if(ids.begin(), ids.end(), [this](std::uint32_t id) {
      return id >= static_cast<std::uint64_t>(info.vocab_size);
    });
    if (bad == ids.end()) return;
    throw InputError{path.string() + ": document " + std::to_string(num_documents) + ", token " +
                     std::to_string(bad - ids.begin()) + ": id " + std::to_string(*bad) +
                     " is not below the vocabulary size " + std::to_string(info.vocab_size)};
  }

  void append(std::span<const std::uint32_t> ids) {
    if (token_type(info.vocab_size) == io::H5Type::u32) return tokens.append_values(ids);
    narrow.assign(ids.begin(), ids.end());
    tokens.append_values(std::span<const std::uint16_t>{narrow});
  }
};

ShardWriter::ShardWriter(const fs::path& path, const DatasetInfo& info) {
  require(info.vocab_size > 0, path.string() + ": the vocabulary size must be positive");
  io::H5File file = io::H5File::create(path);
  io::H5Stream tokens = file.stream({.path = "/tokens",
                                     .type = token_type(info.vocab_size),
                                     .growing = true,
                                     .storage = kStorage},
                                    nullptr);
  io::H5Stream offsets = file.stream(
      {.path = "/doc_offsets", .type = io::H5Type::u64, .growing = true, .storage = kStorage},
      nullptr);
  impl_ = std::make_unique<Impl>(
      Impl{path, info, std::move(file), std::move(tokens), std::move(offsets)});
}

ShardWriter::~ShardWriter() = default;
ShardWriter::ShardWriter(ShardWriter&&) noexcept = default;
ShardWriter& ShardWriter::operator=(ShardWriter&&) noexcept = default;

std::int64_t ShardWriter::tokens() const {
  return impl_->num_tokens;
}

void ShardWriter::add(const Document& document) {
  Impl& s = *impl_;
  s.check(document.tokens);
  const auto begin = static_cast<std::uint64_t>(s.num_tokens);
  s.offsets.append_values(std::span{&begin, 1});
  s.append(document.tokens);
  s.num_tokens += std::ssize(document.tokens);
  s.num_documents += 1;
  s.text_bytes += document.text_bytes;
}

ShardSummary ShardWriter::finish() {
  Impl& s = *impl_;
  const auto end = static_cast<std::uint64_t>(s.num_tokens);
  s.offsets.append_values(std::span{&end, 1});
  s.offsets.finish();
  s.tokens.finish();
  s.file.set_attribute("/", "format_version", kShardFormat);
  s.file.set_attribute("/", "vocab_size", s.info.vocab_size);
  s.file.set_attribute("/", "eos_id", static_cast<std::int64_t>(s.info.eos_id));
  s.file.set_attribute("/", "tokenizer_hash", s.info.tokenizer_hash);
  s.file.set_attribute("/", "num_tokens", s.num_tokens);
  s.file.set_attribute("/", "num_documents", s.num_documents);
  s.file.set_attribute("/", "text_bytes", s.text_bytes);
  s.file.set_attribute("/", "source", s.info.source);
  s.file.set_attribute("/", "cleaning", io::canonical_dump(s.info.cleaning));
  s.file.commit();
  return {.file = s.path.filename().string(),
          .tokens = s.num_tokens,
          .documents = s.num_documents,
          .text_bytes = s.text_bytes,
          .file_bytes = static_cast<std::int64_t>(fs::file_size(s.path)),
          .hash = io::hash_file(s.path)};
}

DatasetWriter::DatasetWriter(fs::path folder, DatasetInfo info, std::int64_t tokens_per_shard)
    : folder_{std::move(folder)}, info_{std::move(info)}, tokens_per_shard_{tokens_per_shard} {
  require(tokens_per_shard > 0, "tokens per shard must be positive");
  std::error_code code;
  fs::create_directories(folder_, code);
  require(!code, "cannot create " + folder_.string() + ": " + code.message());
}

void DatasetWriter::add(const Document& document) {
  if (open_ && open_->tokens() >= tokens_per_shard_) close_shard();
  if (!open_)
    open_.emplace(folder_ / (info_.name + "-" + std::to_string(done_.size()) + ".part"), info_);
  open_->add(document);
}

void DatasetWriter::close_shard() {
  done_.push_back(open_->finish());
  open_.reset();
}

std::vector<ShardSummary> DatasetWriter::finish() {
  if (open_) close_shard();
  require(!done_.empty(), folder_.string() + ": no document to write");
  for (std::size_t i = 0; i < done_.size(); ++i) {
    const std::string final_name =
        shard_file_name(info_.name, static_cast<std::int64_t>(i), std::ssize(done_));
    io::rename_path(folder_ / done_[i].file, folder_ / final_name);
    done_[i].file = final_name;
  }
  write_dataset_index(folder_, info_, done_);
  return done_;
}

void write_dataset_index(const fs::path& folder, const DatasetInfo& info,
                         std::span<const ShardSummary> shards) {
  io::Json list = io::Json::array();
  ShardSummary sum;
  for (const ShardSummary& shard : shards) {
    list.push_back(to_json(shard));
    sum.tokens += shard.tokens;
    sum.documents += shard.documents;
    sum.text_bytes += shard.text_bytes;
  }
  io::write_json_file(folder / kDatasetIndex, {{"format_version", kShardFormat},
                                               {"name", info.name},
                                               {"vocab_size", info.vocab_size},
                                               {"eos_id", info.eos_id},
                                               {"tokenizer_hash", info.tokenizer_hash},
                                               {"tokenizer_file", info.tokenizer_file},
                                               {"source", info.source},
                                               {"cleaning", info.cleaning},
                                               {"tokens", sum.tokens},
                                               {"documents", sum.documents},
                                               {"text_bytes", sum.text_bytes},
                                               {"shards", list}});
}

}  // namespace shoal::data
