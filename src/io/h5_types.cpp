#include "shoal/io/h5_types.hpp"

#include "shoal/base/error.hpp"

namespace shoal::io {

std::int64_t size_of(H5Type type) {
  return type == H5Type::u64 ? 8 : shoal::size_of(dtype_of(type));
}

std::string_view name(H5Type type) {
  return type == H5Type::u64 ? "u64" : shoal::name(dtype_of(type));
}

H5Type h5_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return H5Type::f32;
    case DType::bf16:
      return H5Type::bf16;
    case DType::f16:
      return H5Type::f16;
    case DType::f64:
      return H5Type::f64;
    case DType::i32:
      return H5Type::i32;
    case DType::i64:
      return H5Type::i64;
    case DType::u8:
      return H5Type::u8;
    case DType::u16:
      return H5Type::u16;
    case DType::u32:
      return H5Type::u32;
  }
  fail("HDF5", "unknown dtype");
}

DType dtype_of(H5Type type) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i32, DType::i64,
                            DType::u8, DType::u16, DType::u32}) {
    if (h5_type(dtype) == type) return dtype;
  }
  fail("HDF5", "no tensor has 64-bit unsigned elements");
}

Compression compression_from_name(std::string_view text) {
  if (text == "none") return Compression::none;
  if (text == "deflate") return Compression::deflate;
  if (text == "zstd") return Compression::zstd;
  throw InputError{"unknown compression \"" + std::string{text} +
                   "\": allowed are none, deflate and zstd"};
}

std::int64_t Slab::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t n : count) product *= n;
  return product;
}

std::string to_string(const Slab& slab) {
  std::string text;
  for (std::size_t i = 0; i < slab.start.size(); ++i) {
    text += (i == 0 ? "[" : ", ") + std::to_string(slab.start[i]) + ":" +
            std::to_string(slab.start[i] + slab.count[i]);
  }
  return text + "]";
}

}  // namespace shoal::io
