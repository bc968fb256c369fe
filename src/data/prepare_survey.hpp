#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/prepare_run.hpp"
#include "shoal/text/bpe_trainer.hpp"
#include "shoal/text/hash.hpp"
#include "shoal/text/tokenizer.hpp"

namespace shoal::data {

struct DocumentKey {
  text::Hash128 key;
  std::uint64_t index = 0;  ///< document_index
};

/// A document that goes into the dataset, and where.
struct Survivor {
  std::uint64_t index : 63;
  std::uint64_t validation : 1;
};

/// What pass 1 learns about this rank's shards.
struct Survey {
  SourceReport source;
  text::CleanReport clean;
  std::vector<DocumentKey> keys;  ///< of documents that the rules keep, ascending by index
  text::WordCounts words;         ///< of the training sample
};
[[nodiscard]] Survey survey_documents(const PrepareRun& run);

/// Indices of this rank's documents that occur earlier in the input, on whatever rank; ascending.
/// Each key goes to the rank that owns it (key modulo size), which keeps the smallest index.
[[nodiscard]] std::vector<std::uint64_t> find_duplicates(const Communicator& comm,
                                                         std::span<const DocumentKey> keys);

/// Keys without `duplicates` (both ascending), each with its side of the split.
[[nodiscard]] std::vector<Survivor> select_survivors(const PrepareConfig& config,
                                                     std::span<const DocumentKey> keys,
                                                     std::span<const std::uint64_t> duplicates);

/// Trained on rank 0 from the words of all ranks, made here, or read on rank 0; equal everywhere.
[[nodiscard]] std::unique_ptr<text::Tokenizer> make_tokenizer(const PrepareRun& run,
                                                              const text::WordCounts& words);

}  // namespace shoal::data
