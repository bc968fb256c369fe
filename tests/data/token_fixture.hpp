#pragma once
#include <filesystem>
#include <vector>

#include "shoal/base/philox.hpp"
#include "shoal/data/token_dataset.hpp"

namespace shoal::test {

inline constexpr std::uint32_t kEos = 99;

/// Documents of 1 to 40 tokens, ids 0..98 and the end token, drawn from a seed.
[[nodiscard]] inline std::vector<std::vector<std::uint32_t>> random_documents(int count,
                                                                              std::uint64_t seed) {
  std::vector<std::vector<std::uint32_t>> documents;
  for (int d = 0; d < count; ++d) {
    const auto b = philox::block(seed, philox::Purpose::test, static_cast<std::uint64_t>(d));
    std::vector<std::uint32_t> tokens;
    for (std::uint32_t i = 0; i < b.x0 % 40; ++i) tokens.push_back((b.x1 + i * b.x2) % 99);
    tokens.push_back(kEos);
    documents.push_back(std::move(tokens));
  }
  return documents;
}

[[nodiscard]] inline std::vector<std::int32_t> joined(
    const std::vector<std::vector<std::uint32_t>>& documents) {
  std::vector<std::int32_t> all;
  for (const auto& d : documents) all.insert(all.end(), d.begin(), d.end());
  return all;
}

[[nodiscard]] inline data::DatasetInfo small_info(std::int64_t vocab_size = 100) {
  return {.name = "small",
          .vocab_size = vocab_size,
          .eos_id = kEos,
          .tokenizer_hash = "0123",
          .tokenizer_file = "tokenizer.json",
          .source = "made by a test"};
}

struct SmallDataset {
  std::filesystem::path folder;
  std::int64_t tokens_per_shard = 1000;
  std::int64_t vocab_size = 100;
};
inline void write_dataset(const SmallDataset& where,
                          const std::vector<std::vector<std::uint32_t>>& documents) {
  data::DatasetWriter writer{where.folder, small_info(where.vocab_size), where.tokens_per_shard};
  for (const auto& tokens : documents) {
    writer.add({.tokens = tokens, .text_bytes = 2 * std::ssize(tokens)});
  }
  (void)writer.finish();
}

}  // namespace shoal::test
