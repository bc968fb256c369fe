#include "io/zstd_filter.hpp"

#include <hdf5.h>
#include <zstd.h>

#include <cstdlib>

namespace shoal::io {
namespace {

/// A chunk of ours never unpacks to more; a damaged or hostile size must not be allocated.
constexpr unsigned long long kMaxChunkBytes = 1ULL << 30;

/// HDF5's filter interface: C memory, 0 means failure. Only unpacking: packing is chunk_codec's.
std::size_t zstd_filter(unsigned flags, std::size_t, const unsigned*, std::size_t bytes,
                        std::size_t* capacity, void** buffer) {
  if ((flags & H5Z_FLAG_REVERSE) == 0) return 0;
  const unsigned long long size = ZSTD_getFrameContentSize(*buffer, bytes);
  if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size == 0 ||
      size > kMaxChunkBytes) {
    return 0;
  }
  void* plain = H5allocate_memory(size, false);
  if (plain == nullptr) return 0;
  const std::size_t count = ZSTD_decompress(plain, size, *buffer, bytes);
  if (ZSTD_isError(count)) {
    H5free_memory(plain);
    return 0;
  }
  H5free_memory(*buffer);
  *buffer = plain;
  *capacity = size;
  return count;
}

}  // namespace

void register_zstd_filter() {
  static const H5Z_class2_t kClass{H5Z_CLASS_T_VERS, kZstdFilterId, 1,       1,
                                   "zstd",           nullptr,       nullptr, zstd_filter};
  H5Zregister(&kClass);
}

}  // namespace shoal::io
