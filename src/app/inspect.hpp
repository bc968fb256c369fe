#pragma once
#include <filesystem>
#include <string>

/// What files hold, in words, for `shoal inspect`.
namespace shoal::app {

/// A run folder or one checkpoint. InputError when it is neither.
[[nodiscard]] std::string describe_run(const std::filesystem::path& path);
/// The output folder of `shoal prepare`; empty when it is none.
[[nodiscard]] std::string describe_prepared(const std::filesystem::path& folder);
[[nodiscard]] std::string describe_huggingface(const std::filesystem::path& folder);
[[nodiscard]] std::string describe_tokenizer(const std::filesystem::path& path);
/// A metrics journal.
[[nodiscard]] std::string describe_metrics(const std::filesystem::path& journal);
/// Any other HDF5 file: groups, datasets, shapes.
[[nodiscard]] std::string describe_h5(const std::filesystem::path& path);

}  // namespace shoal::app
