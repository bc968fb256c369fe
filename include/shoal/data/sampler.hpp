#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/io/json.hpp"

namespace shoal::data {

/// How far one source has been read. All counters are tokens, so that another sequence length,
/// batch size or number of ranks continues exactly where the run stopped.
struct SourceState {
  std::string name;
  std::string fingerprint;      ///< TokenDataset::fingerprint()
  std::int64_t num_tokens = 0;  ///< of the source
  std::int64_t epoch = 0;
  std::int64_t window = 0;    ///< tokens of one window in this epoch; 0: the epoch has not begun
  std::int64_t offset = 0;    ///< tokens taken in this epoch
  std::int64_t consumed = 0;  ///< tokens taken in all epochs
  bool operator==(const SourceState&) const = default;
};

/// Weights in force from a position on, one a source of the ledger.
struct WeightChange {
  std::int64_t position = 0;
  std::vector<double> weights;
  bool operator==(const WeightChange&) const = default;
};

/// Everything that decides which tokens come next. Part of the checkpoint.
struct Ledger {
  std::uint64_t seed = 0;
  std::int64_t position = 0;  ///< samples drawn so far
  std::vector<SourceState> sources;
  std::vector<WeightChange> weight_log;
  bool operator==(const Ledger&) const = default;
};
[[nodiscard]] io::Json to_json(const Ledger& ledger);
[[nodiscard]] Ledger ledger_from_json(const io::Json& json, std::string_view what);

/// A source as the configuration names it.
struct SourceSpec {
  std::string name;
  std::string fingerprint;
  std::int64_t num_tokens = 0;
  double weight = 1.0;  ///< share of samples, relative to the sum
};

/// Inputs [start, start + count) of a source's token stream; targets are one further.
struct Piece {
  std::int64_t source = 0;
  std::int64_t start = 0;
  std::int64_t count = 0;
  bool operator==(const Piece&) const = default;
};
/// One sequence: a single piece, except where the sequence length changed in mid-epoch.
using Sample = std::vector<Piece>;

/// Decides which tokens form sample 0, 1, 2, ... of a run.
///
/// An epoch of a source is its token stream cut into windows of the sequence length, in the order
/// of a keyed permutation of (seed, source, epoch). Which source a sample comes from is a function
/// of (seed, position, weights). So the order is a pure function of the seed and the ledger; it
/// knows nothing of ranks. The first window of an epoch begins at one of the first `sequence`
/// tokens, another in each epoch, so that a small source is not cut at the same places again and
/// again; less than a window is left out at each end.
class Sampler {
 public:
  struct Config {
    std::uint64_t seed = 0;
    std::int64_t sequence = 0;  ///< tokens a sample
  };

  /// A fresh start.
  Sampler(const Config& config, const std::vector<SourceSpec>& sources);
  /// Continues. New sources start at their beginning; sources of the ledger that are no longer
  /// named keep their counters with weight 0. InputError when a source's content or the seed has
  /// changed.
  Sampler(const Config& config, const std::vector<SourceSpec>& sources, Ledger ledger);

  [[nodiscard]] std::vector<Sample> next(std::int64_t count);
  [[nodiscard]] const Ledger& ledger() const { return ledger_; }
  /// Index into ledger().sources of each source of the constructor's list.
  [[nodiscard]] const std::vector<std::int64_t>& source_indices() const { return indices_; }

 private:
  void adopt(const std::vector<SourceSpec>& sources);
  void set_weights(const std::vector<SourceSpec>& sources);
  [[nodiscard]] std::int64_t pick_source() const;
  [[nodiscard]] Piece take(std::int64_t source, std::int64_t want);

  Config config_;
  Ledger ledger_;
  std::vector<std::int64_t> indices_;
};

}  // namespace shoal::data
