#pragma once
#include <hdf5.h>

#include <concepts>
#include <mutex>
#include <string>

#include "shoal/base/error.hpp"
#include "shoal/base/unique_handle.hpp"
#include "shoal/io/h5_types.hpp"

namespace shoal::io {

/// Hold it around every HDF5 call: the library is not built for threads. Recursive, because
/// handles close under it too. The first one prepares the library: no error printing, no plug-ins,
/// the zstd filter registered.
[[nodiscard]] std::unique_lock<std::recursive_mutex> h5_lock();

/// The library's error stack as one line, innermost cause last; clears it.
[[nodiscard]] std::string h5_error_stack();

template <std::signed_integral Id>  // hid_t, herr_t, htri_t: negative means failure
Id check_h5(Id id, Where at = Where::current()) {
  if (id < 0) fail("HDF5", h5_error_stack(), at);
  return id;
}

/// For what the contents of a file can cause: InputError with the library's own text.
template <std::signed_integral Id>
Id require_h5(Id id, const std::string& what) {
  if (id < 0) throw InputError{what + ": " + h5_error_stack()};
  return id;
}

template <herr_t (*Close)(hid_t)>
struct H5Traits {
  using Raw = hid_t;
  static Raw null() noexcept { return H5I_INVALID_HID; }
  static void close(Raw id) noexcept {
    const auto lock = h5_lock();
    Close(id);
  }
};
using H5FileId = UniqueHandle<H5Traits<H5Fclose>>;
using H5DatasetId = UniqueHandle<H5Traits<H5Dclose>>;
using H5SpaceId = UniqueHandle<H5Traits<H5Sclose>>;
using H5TypeId = UniqueHandle<H5Traits<H5Tclose>>;
using H5AttributeId = UniqueHandle<H5Traits<H5Aclose>>;
using H5ObjectId = UniqueHandle<H5Traits<H5Oclose>>;
using H5GroupId = UniqueHandle<H5Traits<H5Gclose>>;
using H5PropertyId = UniqueHandle<H5Traits<H5Pclose>>;

/// The type of stored elements, little-endian; bf16 becomes uint16.
[[nodiscard]] H5TypeId make_h5_type(H5Type type);

}  // namespace shoal::io
