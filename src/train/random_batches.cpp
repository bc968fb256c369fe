#include "train/random_batches.hpp"

#include <algorithm>

#include "shoal/base/philox.hpp"

namespace shoal::train {
namespace {

constexpr std::int64_t kBatches = 4;
constexpr std::int32_t kEndOfDocument = 0;  // never drawn

/// Uniform over the other tokens; one more than the sequence has, for its last target.
std::vector<std::int32_t> random_sequence(const RunConfig& config, std::int64_t index) {
  const auto words =
      static_cast<std::uint32_t>(std::max<std::int64_t>(1, config.model.vocab_size - 1));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(config.training.seq_len) + 1);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const philox::Block block =
        philox::block(static_cast<std::uint64_t>(config.training.seed), philox::Purpose::benchmark,
                      t, static_cast<std::uint32_t>(index));
    tokens[t] = kEndOfDocument + 1 + static_cast<std::int32_t>(block.x0 % words);
  }
  return tokens;
}

}  // namespace

RandomBatches::RandomBatches(const RunConfig& config, const BatchShape& shape,
                             data::DataRank rank) {
  const std::int64_t first = rank.index * shape.sequences_per_rank;
  for (std::int64_t b = 0; b < kBatches; ++b) {
    data::BatchArrays arrays{{.sequence = shape.seq_len,
                              .sequences = shape.sequences_per_rank,
                              .micro_batch = shape.micro_batch,
                              .eos_id = kEndOfDocument,
                              .cross_document = config.model.cross_document}};
    arrays.clear(first);
    for (std::int64_t s = 0; s < shape.sequences_per_rank; ++s) {
      arrays.append(random_sequence(config, b * config.training.global_batch_size + first + s));
    }
    batches_.emplace_back(std::move(arrays));
  }
}

const data::StepBatch& RandomBatches::next() {
  const data::StepBatch& batch = batches_[next_];
  next_ = (next_ + 1) % batches_.size();
  return batch;
}

}  // namespace shoal::train
