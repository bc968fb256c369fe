#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "shoal/io/reader.hpp"

namespace shoal::data {

/// A file as it lies on disk from byte `begin` on.
[[nodiscard]] std::unique_ptr<io::ByteReader> open_from(const std::filesystem::path& path,
                                                        std::int64_t begin);

/// gzip or zstd by the first four bytes of the file. InputError when it cannot be read.
[[nodiscard]] bool is_packed(const std::filesystem::path& path);

/// No text: a NUL byte, or more than 30 % controls (white space excepted) in the first kilobytes.
[[nodiscard]] bool looks_binary(std::span<const std::byte> start);
constexpr std::int64_t kSniffBytes = 8192;

/// looks_binary on the start of a file, unpacked. InputError when it cannot be read.
[[nodiscard]] bool is_binary_file(const std::filesystem::path& path);

}  // namespace shoal::data
