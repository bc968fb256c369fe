#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "shoal/io/h5_types.hpp"

namespace shoal::io {

/// A chunk as HDF5 stores it.
struct PackedChunk {
  std::vector<std::byte> bytes;
  std::uint32_t filter_mask = 0;  ///< bit i set: filter i of the pipeline was skipped
};

/// What HDF5's filter pipeline (shuffle, deflate or zstd, fletcher32) would make of the chunk.
/// Compression is skipped where it does not pay. Thread-safe, no HDF5 inside.
[[nodiscard]] PackedChunk pack_chunk(std::span<const std::byte> plain, std::int64_t element_bytes,
                                     const Storage& storage);

/// HDF5's variant of Fletcher's checksum: 16-bit big-endian words, sums modulo 65535.
[[nodiscard]] std::uint32_t fletcher32(std::span<const std::byte> bytes);

}  // namespace shoal::io
