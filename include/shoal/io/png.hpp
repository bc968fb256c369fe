#pragma once
#include <cstdint>
#include <filesystem>
#include <span>

namespace shoal::io {

/// 8-bit RGB pixels, rows from the top: rgb.size() = 3 * width * height.
struct RgbImage {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::span<const std::uint8_t> rgb;
};

/// Writes a PNG file (RFC 2083), complete or not at all. Error when the size does not fit.
void write_png(const std::filesystem::path& path, const RgbImage& image);

}  // namespace shoal::io
