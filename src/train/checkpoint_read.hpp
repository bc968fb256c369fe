#pragma once
#include "shoal/train/checkpoint.hpp"
#include "train/parameter_io.hpp"

namespace shoal::train {

/// A checkpoint open for reading its tensors; sizes and, on request, hashes are checked first.
class CheckpointReader {
 public:
  CheckpointReader(const std::filesystem::path& checkpoint, bool verify);
  [[nodiscard]] const Manifest& manifest() const { return manifest_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] io::H5File& index() { return index_; }
  [[nodiscard]] const io::H5File& index() const { return index_; }
  /// InputError unless the checkpoint's parameters are those of `layout`, by name and global shape;
  /// a layout of the whole model.
  void check(const nn::ParameterLayout& layout) const;
  /// Fills one field of all parameters of a rank: its slices, or the rows that it holds.
  void load(const Field& field, const parallel::ShardPlan& plan) const;

 private:
  std::filesystem::path path_;
  Manifest manifest_;
  io::H5File index_;
};

}  // namespace shoal::train
