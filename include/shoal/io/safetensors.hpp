#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/io/json.hpp"
#include "shoal/tensor/dtype.hpp"
#include "shoal/tensor/shape.hpp"

namespace shoal::io {

/// One tensor of a checkpoint in the safetensors format, F32, F16 or BF16.
struct SafeTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  [[nodiscard]] std::int64_t bytes() const { return shape.elements() * shoal::size_of(dtype); }
};

/// Reads one *.safetensors file, or a folder with model.safetensors, or one whose shards
/// model.safetensors.index.json lists. Nothing in the files is believed: the header is limited to
/// 100 MB, keys are unique, each tensor's bytes fit its shape, and together they cover the data
/// without overlap or hole (the format's own rules). InputError names the file and what is wrong.
class SafeTensorsReader {
 public:
  explicit SafeTensorsReader(const std::filesystem::path& path);
  ~SafeTensorsReader();
  SafeTensorsReader(SafeTensorsReader&&) noexcept;
  SafeTensorsReader& operator=(SafeTensorsReader&&) noexcept;

  [[nodiscard]] std::vector<SafeTensor> tensors() const;  ///< sorted by name
  [[nodiscard]] std::optional<SafeTensor> find(std::string_view name) const;
  /// Bytes [offset, offset + into.size()) of a tensor's row-major little-endian elements.
  void read(std::string_view name, std::int64_t offset, std::span<std::byte> into) const;
  /// The whole tensor as fp32.
  [[nodiscard]] std::vector<float> read_floats(std::string_view name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct SafeTensorsOptions {
  std::int64_t max_shard_bytes = std::int64_t{5} << 30;  ///< a larger tensor gets its own shard
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
};

/// Writes tensors into `folder` as Hugging Face lays them out: model.safetensors, or
/// model-00001-of-0000N.safetensors with model.safetensors.index.json. Headers come first in the
/// files, so all names and shapes are given at once; the data follows in that order. Each file
/// appears complete or not at all, the index last.
class SafeTensorsWriter {
 public:
  SafeTensorsWriter(std::filesystem::path folder, std::vector<SafeTensor> tensors,
                    const SafeTensorsOptions& options = {});
  ~SafeTensorsWriter();
  SafeTensorsWriter(SafeTensorsWriter&&) noexcept;
  SafeTensorsWriter& operator=(SafeTensorsWriter&&) noexcept;

  /// The next tensor of the list; `name` must be its name, and the bytes all of it.
  void write(std::string_view name, std::span<const std::byte> bytes);
  void finish();  ///< all tensors must have been written

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::io
