#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "shoal/data/batch.hpp"
#include "shoal/data/sampler.hpp"
#include "shoal/data/token_dataset.hpp"

namespace shoal::data {

/// This rank's place among the data-parallel ranks.
struct DataRank {
  std::int64_t index = 0;
  std::int64_t count = 1;
};

struct LoaderConfig {
  std::uint64_t seed = 0;
  std::int64_t sequence = 0;      ///< tokens a sequence
  std::int64_t global_batch = 0;  ///< sequences a step over all ranks
  std::int64_t micro_batch = 0;  ///< sequences a micro-batch; ranks * micro_batch divides the above
  bool cross_document = false;
};

/// A named dataset and its share of the samples.
struct BlendSource {
  std::string name;  ///< keys its order and its counters: keep it when the folder moves
  std::shared_ptr<const TokenDataset> dataset;
  double weight = 1.0;
};

/// What a rank trains on in one step. Valid until the loader's next().
class StepBatch {
 public:
  explicit StepBatch(BatchArrays arrays) : arrays_{std::move(arrays)} {}
  [[nodiscard]] std::int64_t num_micro_batches() const { return arrays_.num_views(); }
  [[nodiscard]] BatchView micro_batch(std::int64_t index) const { return arrays_.view(index); }
  [[nodiscard]] std::int64_t targets() const { return arrays_.targets(); }  ///< this rank's
  /// The run's data state once this step is done: what a checkpoint after it holds.
  [[nodiscard]] const Ledger& ledger_after() const { return ledger_after_; }

 private:
  friend class Loader;
  BatchArrays arrays_;
  Ledger ledger_after_;
};

/// Delivers the training batches of one rank, one step ahead of their use on a thread of its own.
/// Sample positions of a step go to the ranks in contiguous slices, so that any number of ranks
/// consumes the same samples. Errors in the data (InputError) come out of next().
class Loader {
 public:
  Loader(const LoaderConfig& config, std::vector<BlendSource> sources, DataRank rank,
         std::optional<Ledger> resume_from = std::nullopt);
  ~Loader();
  Loader(Loader&&) noexcept;
  Loader& operator=(Loader&&) noexcept;

  [[nodiscard]] const StepBatch& next();
  /// The data state after the batches delivered so far.
  [[nodiscard]] const Ledger& ledger() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct EvalConfig {
  std::int64_t sequence = 0;
  std::int64_t micro_batch = 0;
  std::int64_t max_sequences = 0;  ///< 0: the whole dataset
  bool cross_document = false;
};

/// A whole dataset in order, in fixed windows; the last one is padded with mask 0, and so are the
/// windows that make up equal numbers of micro-batches on all ranks. Micro-batch i is the same at
/// any time: no state.
class EvalLoader {
 public:
  EvalLoader(const EvalConfig& config, std::shared_ptr<const TokenDataset> dataset, DataRank rank);
  [[nodiscard]] std::int64_t num_micro_batches() const { return num_micro_batches_; }
  [[nodiscard]] std::int64_t num_sequences() const { return num_sequences_; }  ///< of all ranks
  /// Valid until the next call.
  [[nodiscard]] BatchView micro_batch(std::int64_t index);

 private:
  EvalConfig config_;
  std::shared_ptr<const TokenDataset> dataset_;
  DataRank rank_;
  std::int64_t num_sequences_ = 0;
  std::int64_t num_micro_batches_ = 0;
  BatchArrays arrays_;
  std::vector<std::int32_t> tokens_;
};

}  // namespace shoal::data
