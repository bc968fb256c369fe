#pragma once
#include <filesystem>
#include <string>

namespace shoal::data {

/// What a token dataset folder or a single shard file holds, in words, for `shoal inspect`.
/// InputError when it is neither.
[[nodiscard]] std::string describe(const std::filesystem::path& path);
/// Whether describe() knows the path: a folder with dataset.json, or an HDF5 file with /tokens.
[[nodiscard]] bool is_token_data(const std::filesystem::path& path);

}  // namespace shoal::data
