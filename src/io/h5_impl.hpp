#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "io/h5_handle.hpp"
#include "shoal/io/h5_file.hpp"

namespace shoal::io {

struct H5File::Impl {
  H5FileId id;
  std::filesystem::path path;
  std::filesystem::path temporary;  ///< empty when the file is only read
};

struct H5Dataset::Impl {
  H5DatasetId id;
  std::string where;  ///< "shard.h5: dataset /tokens"
  H5Type type;
  Shape shape;
  bool is_virtual;
  std::int64_t stored_bytes;
};

/// Opens a dataset of a file that may come from anywhere, or throws InputError; null when absent.
[[nodiscard]] std::unique_ptr<H5Dataset::Impl> open_checked_dataset(hid_t file,
                                                                    const std::string& file_name,
                                                                    const std::string& path);
/// True when every part of the path is there; InputError when a part is a soft or external link.
[[nodiscard]] bool link_path_exists(hid_t file, const std::string& file_name,
                                    const std::string& path);
[[nodiscard]] H5SpaceId make_space(const Shape& shape);
void write_string_attribute(hid_t object, const std::string& name, const std::string& value);
[[nodiscard]] std::string read_string_attribute(hid_t attribute, const std::string& where);

}  // namespace shoal::io
