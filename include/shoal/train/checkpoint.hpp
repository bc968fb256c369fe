#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "shoal/device/exec.hpp"
#include "shoal/io/json.hpp"
#include "shoal/nn/model_config.hpp"
#include "shoal/nn/parameter.hpp"

/// Checkpoints (DESIGN section 8): step-00001000/ holds rank-00000.h5, ... (the rows that each
/// writer stands for, as [rows, elements of a row] of its slices), index.h5 (every tensor as one
/// virtual dataset of global shape) and manifest.json. In HDF5, parameter "a.b" is dataset
/// /weights/a.b (f32 master values), its optimizer states are /optimizer/{m,v,u}/a.b, and /state
/// holds step_state and router biases by name.
namespace shoal::train {

inline constexpr int kCheckpointVersion = 1;

struct FileEntry {
  std::string name;
  std::int64_t bytes = 0;
  std::string hash;  ///< XXH3, 128 bits
};

/// What a checkpoint says about itself; manifest.json, written last.
struct Manifest {
  std::int64_t step = 0;
  std::string code_version;
  std::string layout;     ///< of the run that wrote it; any layout can load it
  std::string precision;  ///< fp32 | bf16 | fp16
  std::string optimizer;  ///< kind; empty: weights only
  nn::ModelConfig model;
  std::string tokenizer_hash;    ///< empty when unknown
  io::Json state;                ///< sampler ledger and the trainer's own values
  std::string effective_config;  ///< the run's configuration as text
  std::vector<FileEntry> files;
};

/// Reads manifest.json of a checkpoint folder. InputError when it is missing, damaged, of a newer
/// format, or when a listed file is missing or of another size.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& checkpoint);
/// Compares every file's hash; InputError names the first that differs.
void verify_hashes(const std::filesystem::path& checkpoint, const Manifest& manifest);
/// A checkpoint folder as given, or the newest complete one of a run folder. InputError when there
/// is none.
[[nodiscard]] std::filesystem::path find_checkpoint(const std::filesystem::path& path);
/// Complete checkpoints of a run folder, newest first. Folders without a manifest do not count.
[[nodiscard]] std::vector<std::filesystem::path> list_checkpoints(
    const std::filesystem::path& run_dir);

/// Rows of a parameter (all dimensions but the last flattened) as fp32, of the global tensor.
struct RowWindow {
  std::string name;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t row_elements = 0;
};
/// Reads weights of a checkpoint by hyperslabs, whatever layout wrote it.
class WeightReader {
 public:
  /// Checks the manifest and sizes first. `verify`: hashes too.
  explicit WeightReader(const std::filesystem::path& checkpoint, bool verify = true);
  ~WeightReader();
  WeightReader(WeightReader&&) noexcept;
  [[nodiscard]] const Manifest& manifest() const;
  void read(const RowWindow& window, std::span<float> values) const;
  /// InputError unless the parameters of `layout` are the checkpoint's, by name and shape.
  void check(const nn::ParameterLayout& layout) const;

 private:
  friend void load_weights(const Exec& exec, const WeightReader& reader,
                           const nn::ParameterStore& store);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Fills a store (any precision) with a checkpoint's weights: eval, generate, export, init_from.
void load_weights(const Exec& exec, const WeightReader& reader, const nn::ParameterStore& store);

/// A tensor beside the parameters: router biases "layers.N.mlp.gate.e_score_correction_bias".
struct NamedValues {
  std::string name;
  std::vector<float> values;
};
/// Router biases of a checkpoint; empty for a model without.
[[nodiscard]] std::vector<NamedValues> read_router_bias(const std::filesystem::path& checkpoint);

/// A checkpoint that holds weights only, made by import: `values` fills fp32 rows on request.
struct WeightsToWrite {
  std::filesystem::path checkpoint;  ///< folder to create, e.g. run/step-00000000
  const nn::ParameterLayout* layout = nullptr;
  nn::ModelConfig model;
  std::string tokenizer_hash;
  std::string tokenizer_json;            ///< stored beside; empty: none
  std::vector<NamedValues> router_bias;  ///< empty: none
  std::function<void(const RowWindow&, std::span<float>)> values;
};
void write_weights(const WeightsToWrite& args);

}  // namespace shoal::train
