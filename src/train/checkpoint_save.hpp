#pragma once
#include <functional>
#include <string>
#include <vector>

#include "shoal/io/h5_file.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/train/checkpoint.hpp"

namespace shoal::train {

/// One dataset of a checkpoint: this writer's slice of a global tensor.
struct CheckpointDataset {
  std::string path;  ///< "/weights/embed_tokens"
  io::H5Type type = io::H5Type::f32;
  Shape global;
  nn::Slice slice;
  std::function<void(io::H5Stream&)> write;  ///< appends all local elements
};

/// A small whole tensor from host memory.
[[nodiscard]] CheckpointDataset whole_dataset(std::string path, io::H5Type type,
                                              std::vector<std::byte> bytes);

struct SaveRequest {
  std::filesystem::path checkpoint;  ///< .../step-00001000
  Manifest manifest;                 ///< `files` is filled here
  std::vector<CheckpointDataset> datasets;
  std::string tokenizer_json;  ///< stored as tokenizer.json when not empty
  int deflate_level = 1;
};
/// Writes the folder under its temporary name, then commits it (DESIGN section 8). Serial: called
/// by the one writer of this version.
void save_folder(const SaveRequest& request);

[[nodiscard]] std::string step_folder_name(std::int64_t step);  ///< "step-00001000"
/// Points run_dir/latest at the newest checkpoint and removes all but `keep_last` (0: none).
void publish(const std::filesystem::path& checkpoint, std::int64_t keep_last);
/// Removes left-overs of killed writers.
void remove_temporaries(const std::filesystem::path& run_dir);
/// Warns when the file system of `run_dir` has less free than `bytes`.
void check_disk(const std::filesystem::path& run_dir, std::int64_t bytes);

[[nodiscard]] std::string dump_manifest(const Manifest& manifest);

}  // namespace shoal::train
