#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "shoal/io/safetensors.hpp"

namespace shoal::io {

/// A tensor and where its bytes lie in the file.
struct PlacedTensor {
  SafeTensor tensor;
  std::int64_t begin = 0;  ///< from the start of the file
};

/// Parses and checks the header of one file; the checks are those of SafeTensorsReader.
[[nodiscard]] std::vector<PlacedTensor> read_safetensors_header(const std::filesystem::path& path);

/// Length field and header of a file that holds the tensors back to back, padded to 8 bytes.
[[nodiscard]] std::string make_safetensors_header(const std::vector<SafeTensor>& tensors,
                                                  const Json& metadata);

}  // namespace shoal::io
