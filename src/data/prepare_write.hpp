#pragma once
#include <span>
#include <vector>

#include "data/prepare_survey.hpp"
#include "shoal/data/token_shard.hpp"

namespace shoal::data {

/// What pass 2 made on this rank, and after merging on all.
struct WrittenShards {
  text::CleanReport clean;          ///< of the documents that went in
  std::vector<ShardSummary> train;  ///< in order; on rank 0 those of all ranks
  std::vector<ShardSummary> val;    ///< on rank 0
};

/// Pass 2: cleans and tokenises the `survivors` of this rank's shards (ascending) and writes
/// train/ and val/ below run.folder, without their dataset.json. Collective.
[[nodiscard]] WrittenShards write_shards(const PrepareRun& run, const DatasetInfo& info,
                                         const text::Tokenizer& tokenizer,
                                         std::span<const Survivor> survivors);

}  // namespace shoal::data
