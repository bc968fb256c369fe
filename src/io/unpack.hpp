#pragma once
#include <memory>

#include "shoal/io/reader.hpp"

namespace shoal::io {

[[nodiscard]] std::unique_ptr<ByteReader> make_gzip_reader(std::unique_ptr<ByteReader> packed);
[[nodiscard]] std::unique_ptr<ByteReader> make_zstd_reader(std::unique_ptr<ByteReader> packed);

}  // namespace shoal::io
