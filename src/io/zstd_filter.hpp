#pragma once

namespace shoal::io {

inline constexpr int kZstdFilterId = 32015;  // registered with The HDF Group

/// Lets HDF5 read (and describe) chunks that were compressed with zstd.
void register_zstd_filter();

}  // namespace shoal::io
