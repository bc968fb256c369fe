#include "data/prepare_val_parts.hpp"

#include <array>
#include <filesystem>
#include <fstream>

#include "shoal/base/error.hpp"

namespace shoal::data {

void ValPart::add(const Document& document) {
  const std::array<std::uint64_t, 2> head = {static_cast<std::uint64_t>(document.text_bytes),
                                             document.tokens.size()};
  buffer_.append(reinterpret_cast<const char*>(head.data()), sizeof(head));
  buffer_.append(reinterpret_cast<const char*>(document.tokens.data()),
                 document.tokens.size_bytes());
  constexpr std::size_t kFlushBytes = std::size_t{1} << 20;
  if (buffer_.size() >= kFlushBytes) flush();
}

void ValPart::flush() {
  if (buffer_.empty()) return;
  std::ofstream file{path_, std::ios::binary | std::ios::app};
  file.write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
  file.close();
  if (!file.good()) fail("write", path_ + ": writing failed (is the disk full?)");
  buffer_.clear();
}

std::string val_part_path(const std::string& folder, std::int64_t shard) {
  return folder + "/part-" + std::to_string(shard) + ".tokens";
}

bool merge_val_parts(const std::string& folder, std::int64_t num_shards, DatasetWriter& writer) {
  std::vector<std::uint32_t> tokens;
  bool any = false;
  for (std::int64_t s = 0; s < num_shards; ++s) {
    const std::string path = val_part_path(folder, s);
    if (!std::filesystem::exists(path)) continue;
    std::ifstream file{path, std::ios::binary};
    std::array<std::uint64_t, 2> head{};
    while (file.read(reinterpret_cast<char*>(head.data()), sizeof(head))) {
      tokens.resize(head[1]);
      file.read(reinterpret_cast<char*>(tokens.data()),
                static_cast<std::streamsize>(tokens.size() * sizeof(tokens[0])));
      if (!file.good()) fail("read", path + ": is cut short");
      writer.add({.tokens = tokens, .text_bytes = static_cast<std::int64_t>(head[0])});
    }
    file.close();
    std::filesystem::remove(path);
    any = true;
  }
  return any;
}

}  // namespace shoal::data
