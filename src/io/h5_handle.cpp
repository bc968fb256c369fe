#include "io/h5_handle.hpp"

#include "io/zstd_filter.hpp"

namespace shoal::io {
namespace {

bool prepare_library() {
  H5dont_atexit();           // we close what we open; see flush_or_abandon for what stays open
  H5PLset_loading_state(0);  // a file must not choose code for us to load
  register_zstd_filter();
  return true;
}

herr_t collect(unsigned, const H5E_error2_t* error, void* text) {
  auto& all = *static_cast<std::string*>(text);
  if (error->desc != nullptr && *error->desc != '\0') {
    all += (all.empty() ? "" : "; ") + std::string{error->desc};
  }
  return 0;
}

}  // namespace

std::unique_lock<std::recursive_mutex> h5_lock() {
  static std::recursive_mutex mutex;
  std::unique_lock lock{mutex};
  static const bool prepared = prepare_library();
  // A library built with threads keeps this setting for each of them.
  thread_local const bool silent = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  static_cast<void>(prepared && silent);
  return lock;
}

std::string h5_error_stack() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, collect, &text);
  H5Eclear2(H5E_DEFAULT);
  return text.empty() ? "unknown error" : text;
}

H5TypeId make_h5_type(H5Type type) {
  switch (type) {
    case H5Type::f32:
      return H5TypeId{H5Tcopy(H5T_IEEE_F32LE)};
    case H5Type::f64:
      return H5TypeId{H5Tcopy(H5T_IEEE_F64LE)};
    case H5Type::i32:
      return H5TypeId{H5Tcopy(H5T_STD_I32LE)};
    case H5Type::i64:
      return H5TypeId{H5Tcopy(H5T_STD_I64LE)};
    case H5Type::u8:
      return H5TypeId{H5Tcopy(H5T_STD_U8LE)};
    case H5Type::bf16:
    case H5Type::u16:
      return H5TypeId{H5Tcopy(H5T_STD_U16LE)};
    case H5Type::u32:
      return H5TypeId{H5Tcopy(H5T_STD_U32LE)};
    case H5Type::u64:
      return H5TypeId{H5Tcopy(H5T_STD_U64LE)};
    case H5Type::f16: {
      H5TypeId half{H5Tcopy(H5T_IEEE_F32LE)};
      check_h5(H5Tset_fields(half.get(), 15, 10, 5, 0, 10));  // sign, exponent, mantissa bits
      check_h5(H5Tset_size(half.get(), 2));
      check_h5(H5Tset_ebias(half.get(), 15));
      return half;
    }
  }
  fail("HDF5", "unknown element type");
}

}  // namespace shoal::io
