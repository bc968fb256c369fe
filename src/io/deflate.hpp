#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace shoal::io {

/// zlib format. With libdeflate levels 1..12, otherwise zlib's 1..9.
[[nodiscard]] std::vector<std::byte> compress_deflate(std::span<const std::byte> plain, int level);

}  // namespace shoal::io
