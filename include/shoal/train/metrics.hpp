#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "shoal/base/clock.hpp"
#include "shoal/io/atomic_file.hpp"

/// Metrics of a run. The truth is metrics.journal, appended record by record with a checksum each;
/// metrics.h5 is made from it by write-and-rename, so that it can be opened at any instant:
///   /train/{step,loss,aux_loss,grad_norm,lr,tokens,tokens_per_second,mfu,loss_scale,skipped,
///           seconds_*, reduced_early}              one row a step
///   /validation/{step,loss,perplexity,bits_per_byte}  one row an evaluation
///   /router/{step} [R], {counts,bias} [R, layers, experts], {entropy,drop_rate} [R, layers]
namespace shoal::train {

/// Columns of /train, in file order; all f64 but `step`, which is i64.
enum class Column {
  loss,
  aux_loss,
  z_loss,
  grad_norm,
  lr,
  tokens,
  tokens_per_second,
  mfu,
  loss_scale,
  skipped,
  seconds_step,
  seconds_data,
  seconds_reduce,
  reduced_early,
  seconds_evaluate,
  seconds_checkpoint,
};
inline constexpr int kColumns = 16;
[[nodiscard]] std::string_view name(Column column);

struct StepRow {
  std::int64_t step = 0;  ///< steps done, 1 after the first
  std::array<double, kColumns> values{};
  [[nodiscard]] double& operator[](Column c) { return values[static_cast<std::size_t>(c)]; }
  [[nodiscard]] double operator[](Column c) const { return values[static_cast<std::size_t>(c)]; }
};
struct ValidationRow {
  std::int64_t step = 0;
  double loss = 0.0;  ///< nats a target
  double perplexity = 0.0;
  double bits_per_byte = 0.0;  ///< NaN when the dataset does not tell its bytes
};
/// Router ledger of one step; layers in model order, MoE layers only.
struct RouterRow {
  std::int64_t step = 0;
  std::vector<float> counts;     ///< [layers * experts] tokens of the global batch
  std::vector<float> bias;       ///< [layers * experts]
  std::vector<float> entropy;    ///< [layers] mean over tokens, nats
  std::vector<float> drop_rate;  ///< [layers] share of routed slots dropped
};
struct RouterShape {
  std::int64_t layers = 0;
  std::int64_t experts = 0;
  bool operator==(const RouterShape&) const = default;
};

/// All rows of a run.
struct MetricsTable {
  RouterShape router;
  std::vector<StepRow> steps;
  std::vector<ValidationRow> validations;
  std::vector<RouterRow> routers;
};

/// Appends rows to the journal and makes metrics.h5 from it.
class MetricsWriter {
 public:
  struct Options {
    std::filesystem::path run_dir;
    RouterShape router;
    double rebuild_seconds = 60.0;
    double sync_seconds = 10.0;
  };
  /// Opens or creates the journal; rows of steps beyond `keep_steps` and a torn tail are cut.
  MetricsWriter(Options options, std::int64_t keep_steps);

  void add(const StepRow& row);
  void add(const ValidationRow& row);
  void add(const RouterRow& row);
  /// Step of the last validation row; -1 without one.
  [[nodiscard]] std::int64_t last_validation() const { return last_validation_; }
  void sync();     ///< the journal is on disk after this
  void rebuild();  ///< metrics.h5 holds all rows after this

 private:
  void append(std::span<const std::byte> record);
  void keep_up();

  Options options_;
  io::FileDescriptor file_;
  Stopwatch since_sync_, since_rebuild_;
  double rebuild_took_s_ = 0.0;
  std::int64_t last_validation_ = -1;
};

/// Reads a journal up to its first damaged record.
[[nodiscard]] MetricsTable read_journal(const std::filesystem::path& journal);
/// Writes metrics.h5 by write-and-rename.
void write_metrics_file(const std::filesystem::path& path, const MetricsTable& table);

}  // namespace shoal::train
