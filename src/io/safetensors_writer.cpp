#include <cstdio>
#include <optional>
#include <utility>

#include "io/safetensors_header.hpp"
#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"

namespace shoal::io {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

/// Consecutive tensors go together while they fit.
[[nodiscard]] std::vector<std::vector<SafeTensor>> deal(std::vector<SafeTensor> tensors,
                                                        std::int64_t max_bytes) {
  std::vector<std::vector<SafeTensor>> shards(1);
  std::int64_t open = 0;
  for (SafeTensor& tensor : tensors) {
    if (!shards.back().empty() && open + tensor.bytes() > max_bytes) {
      shards.emplace_back();
      open = 0;
    }
    open += tensor.bytes();
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

}  // namespace

struct SafeTensorsWriter::Impl {
  fs::path folder;
  Json metadata;
  std::vector<std::vector<SafeTensor>> shards;
  std::size_t shard = 0;   ///< being written
  std::size_t tensor = 0;  ///< next one in it
  std::optional<AtomicFile> file;

  void open_shard() {
    file.emplace(folder / shard_name(shard, shards.size()));
    file->write(make_safetensors_header(shards[shard], metadata));
  }
  void close_full_shard() {
    if (tensor < shards[shard].size()) return;
    file->commit();
    file.reset();
    ++shard;
    tensor = 0;
    if (shard < shards.size()) open_shard();
  }
};

SafeTensorsWriter::SafeTensorsWriter(fs::path folder, std::vector<SafeTensor> tensors,
                                     const SafeTensorsOptions& options) {
  require(!tensors.empty(), "there is no tensor to write");
  Json metadata = Json::object();
  for (const auto& [key, value] : options.metadata) metadata[key] = value;
  impl_ = std::make_unique<Impl>();
  impl_->folder = std::move(folder);
  impl_->metadata = std::move(metadata);
  impl_->shards = deal(std::move(tensors), options.max_shard_bytes);
  impl_->open_shard();
}

SafeTensorsWriter::~SafeTensorsWriter() = default;
SafeTensorsWriter::SafeTensorsWriter(SafeTensorsWriter&&) noexcept = default;
SafeTensorsWriter& SafeTensorsWriter::operator=(SafeTensorsWriter&&) noexcept = default;

void SafeTensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  Impl& s = *impl_;
  expect(s.shard < s.shards.size(), "all tensors have been written");
  const SafeTensor& next = s.shards[s.shard][s.tensor];
  expect(name == next.name && std::ssize(bytes) == next.bytes(),
         "tensor " + std::string{name} + " does not fit the announced " + next.name + " of " +
             std::to_string(next.bytes()) + " bytes");
  s.file->write(bytes);
  ++s.tensor;
  s.close_full_shard();
}

void SafeTensorsWriter::finish() {
  const Impl& s = *impl_;
  expect(s.shard == s.shards.size(), "some tensors have not been written");
  if (s.shards.size() == 1) return;
  Json weight_map = Json::object();
  std::int64_t total = 0;
  for (std::size_t i = 0; i < s.shards.size(); ++i) {
    for (const SafeTensor& tensor : s.shards[i]) {
      weight_map[tensor.name] = shard_name(i, s.shards.size());
      total += tensor.bytes();
    }
  }
  write_json_file(s.folder / "model.safetensors.index.json",
                  {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}});
}

}  // namespace shoal::io
