#include "io/deflate.hpp"

#include <algorithm>

#include "shoal/base/error.hpp"
#include "shoal/base/unique_handle.hpp"

#if SHOAL_HAS_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

namespace shoal::io {

#if SHOAL_HAS_LIBDEFLATE  // two to three times as fast as zlib, same format

namespace {
struct CompressorTraits {
  using Raw = libdeflate_compressor*;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw compressor) noexcept { libdeflate_free_compressor(compressor); }
};
}  // namespace

std::vector<std::byte> compress_deflate(std::span<const std::byte> plain, int level) {
  const UniqueHandle<CompressorTraits> compressor{
      libdeflate_alloc_compressor(std::clamp(level, 1, 12))};
  expect(static_cast<bool>(compressor), "libdeflate: no memory");
  std::vector<std::byte> packed(libdeflate_zlib_compress_bound(compressor.get(), plain.size()));
  const std::size_t size = libdeflate_zlib_compress(compressor.get(), plain.data(), plain.size(),
                                                    packed.data(), packed.size());
  expect(size > 0, "libdeflate: the bound was too small");
  packed.resize(size);
  return packed;
}

#else

std::vector<std::byte> compress_deflate(std::span<const std::byte> plain, int level) {
  uLongf size = compressBound(plain.size());
  std::vector<std::byte> packed(size);
  const int code = compress2(reinterpret_cast<Bytef*>(packed.data()), &size,
                             reinterpret_cast<const Bytef*>(plain.data()), plain.size(),
                             std::clamp(level, 1, 9));
  if (code != Z_OK) fail("zlib", zError(code));
  packed.resize(size);
  return packed;
}

#endif

}  // namespace shoal::io
