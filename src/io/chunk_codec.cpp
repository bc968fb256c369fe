#include "io/chunk_codec.hpp"

#include <zstd.h>

#include <algorithm>

#include "io/deflate.hpp"
#include "shoal/base/error.hpp"

namespace shoal::io {
namespace {

using Bytes = std::vector<std::byte>;

/// Byte b of element i moves to b * count + i; a rest shorter than an element stays at the end.
[[nodiscard]] Bytes shuffle(std::span<const std::byte> plain, std::size_t size) {
  Bytes out(plain.size());
  const std::size_t count = plain.size() / size;
  for (std::size_t b = 0; b < size; ++b) {
    std::byte* plane = out.data() + b * count;
    for (std::size_t i = 0; i < count; ++i) plane[i] = plain[i * size + b];
  }
  std::copy(plain.begin() + static_cast<std::ptrdiff_t>(count * size), plain.end(),
            out.begin() + static_cast<std::ptrdiff_t>(count * size));
  return out;
}

[[nodiscard]] Bytes compress_zstd(std::span<const std::byte> plain, int level) {
  Bytes packed(ZSTD_compressBound(plain.size()));
  const std::size_t size =
      ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), level);
  if (ZSTD_isError(size)) fail("zstd", ZSTD_getErrorName(size));
  packed.resize(size);
  return packed;
}

/// A sum modulo 65535 as ones'-complement folding leaves it: 65535 stands for a multiple.
[[nodiscard]] std::uint32_t folded(std::uint64_t sum) {
  return sum == 0 ? 0 : static_cast<std::uint32_t>((sum - 1) % 65535 + 1);
}

}  // namespace

std::uint32_t fletcher32(std::span<const std::byte> bytes) {
  constexpr std::size_t kBlockWords = 1 << 16;  // sums of one block stay far below 2^64
  std::uint64_t first = 0, second = 0;
  const std::size_t words = bytes.size() / 2;
  const std::byte* data = bytes.data();
  for (std::size_t begin = 0; begin < words; begin += kBlockWords) {
    const std::size_t end = std::min(words, begin + kBlockWords);
    for (std::size_t i = begin; i < end; ++i) {
      first += std::to_integer<std::uint64_t>(data[2 * i]) << 8 |
               std::to_integer<std::uint64_t>(data[2 * i + 1]);
      second += first;
    }
    first = folded(first);
    second = folded(second);
  }
  if (bytes.size() % 2 != 0) {
    first += std::to_integer<std::uint64_t>(bytes.back()) << 8;
    second += first;
  }
  return folded(second) << 16 | folded(first);
}

PackedChunk pack_chunk(std::span<const std::byte> plain, std::int64_t element_bytes,
                       const Storage& storage) {
  PackedChunk chunk;
  std::uint32_t filter = 0;  // position in the pipeline
  const bool shuffles = storage.shuffle && element_bytes > 1;
  if (shuffles) {
    chunk.bytes = shuffle(plain, static_cast<std::size_t>(element_bytes));
    ++filter;
  } else {
    chunk.bytes.assign(plain.begin(), plain.end());
  }
  if (storage.compression != Compression::none) {
    Bytes packed = storage.compression == Compression::deflate
                       ? compress_deflate(chunk.bytes, storage.level)
                       : compress_zstd(chunk.bytes, storage.level);
    if (packed.size() < chunk.bytes.size()) {
      chunk.bytes = std::move(packed);
    } else {
      chunk.filter_mask |= 1U << filter;
    }
  }
  const std::uint32_t sum = fletcher32(chunk.bytes);
  for (int shift = 0; shift < 32; shift += 8) {
    chunk.bytes.push_back(static_cast<std::byte>(sum >> shift & 0xFFU));
  }
  return chunk;
}

}  // namespace shoal::io
