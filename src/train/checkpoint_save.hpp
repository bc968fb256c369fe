#pragma once
#include <functional>
#include <string>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/io/h5_file.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/parallel/shard_plan.hpp"
#include "shoal/train/checkpoint.hpp"

namespace shoal::train {

/// One dataset of a checkpoint: some rows of this writer's slice of a global tensor.
struct CheckpointDataset {
  std::string path;  ///< "/weights/embed_tokens"
  io::H5Type type = io::H5Type::f32;
  Shape global;
  nn::Slice slice;
  parallel::RowRange rows;                   ///< of the slice
  std::function<void(io::H5Stream&)> write;  ///< appends the rows; may be absent without any
};

/// A small whole tensor from host memory.
[[nodiscard]] CheckpointDataset whole_dataset(std::string path, io::H5Type type,
                                              std::vector<std::byte> bytes);

/// What one rank brings to a checkpoint. Over all ranks the datasets of a path have the same type
/// and global shape and cover each element once.
struct SaveRequest {
  std::filesystem::path checkpoint;  ///< .../step-00001000
  Manifest manifest;                 ///< of the first rank; `files` is filled here
  std::vector<CheckpointDataset> datasets;
  std::string tokenizer_json;  ///< of the first rank; stored as tokenizer.json when not empty
  int deflate_level = 1;
};
/// Every rank writes its file under the temporary folder; then the first one writes the index and,
/// last, the manifest, and commits the folder (DESIGN section 8). Collective: an error of any rank
/// is thrown on all and leaves nothing behind.
void save_folder(const SaveRequest& request, const Communicator& world);

[[nodiscard]] std::string step_folder_name(std::int64_t step);  ///< "step-00001000"
/// Points run_dir/latest at the newest checkpoint and removes all but `keep_last` (0: none).
void publish(const std::filesystem::path& checkpoint, std::int64_t keep_last);
/// Removes left-overs of killed writers.
void remove_temporaries(const std::filesystem::path& run_dir);
/// Warns when the file system of `run_dir` has less free than `bytes`.
void check_disk(const std::filesystem::path& run_dir, std::int64_t bytes);

[[nodiscard]] std::string dump_manifest(const Manifest& manifest);

/// What the index needs to know of one writer's file: its datasets without their data, as text.
[[nodiscard]] std::string describe_datasets(const std::vector<CheckpointDataset>& datasets);
inline constexpr const char* kIndexFile = "index.h5";
/// One virtual dataset of global shape for each path, over the files of all writers.
void write_index(const std::filesystem::path& folder, std::int64_t step,
                 const std::vector<std::string>& described);
[[nodiscard]] std::string rank_file_name(int rank);  ///< "rank-00000.h5"

}  // namespace shoal::train
