#pragma once
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/tensor/dtype.hpp"
#include "shoal/tensor/shape.hpp"

namespace shoal::io {

/// Element types in our HDF5 files. bf16 lies there as uint16 with the attribute dtype = "bf16"
/// (HDF5 has no such type), f16 as an IEEE half.
enum class H5Type { f32, bf16, f16, f64, i32, i64, u8, u16, u32, u64 };
[[nodiscard]] std::int64_t size_of(H5Type type);
[[nodiscard]] std::string_view name(H5Type type);
[[nodiscard]] H5Type h5_type(DType dtype);
[[nodiscard]] DType dtype_of(H5Type type);  ///< Error for u64, which no tensor has

template <class T>
[[nodiscard]] constexpr H5Type h5_type_of() {
  if constexpr (std::same_as<T, float>) return H5Type::f32;
  if constexpr (std::same_as<T, double>) return H5Type::f64;
  if constexpr (std::same_as<T, Bf16>) return H5Type::bf16;
  if constexpr (std::same_as<T, Half>) return H5Type::f16;
  if constexpr (std::same_as<T, std::int32_t>) return H5Type::i32;
  if constexpr (std::same_as<T, std::int64_t>) return H5Type::i64;
  if constexpr (std::same_as<T, std::uint8_t>) return H5Type::u8;
  if constexpr (std::same_as<T, std::uint16_t>) return H5Type::u16;
  if constexpr (std::same_as<T, std::uint32_t>) return H5Type::u32;
  if constexpr (std::same_as<T, std::uint64_t>) return H5Type::u64;
}

enum class Compression { none, deflate, zstd };
/// InputError lists the known names: none, deflate, zstd.
[[nodiscard]] Compression compression_from_name(std::string_view text);

/// How a dataset is stored. Chunks always carry a Fletcher32 checksum.
struct Storage {
  Compression compression = Compression::deflate;  ///< zstd: stock h5py needs a plug-in to read it
  int level = 1;        ///< deflate 1..12 (above 9 as 9 without libdeflate), zstd 1..19
  bool shuffle = true;  ///< bytes of equal significance together: exponents compress
  std::int64_t chunk_bytes = 1 << 20;
};

/// A box in a dataset: one start and one count a dimension.
struct Slab {
  std::vector<std::int64_t> start;
  std::vector<std::int64_t> count;
  [[nodiscard]] std::int64_t elements() const;
};
[[nodiscard]] std::string to_string(const Slab& slab);  ///< "[0:4, 8:16]"

/// A piece of a virtual dataset: `from` of a dataset in another file is `to` of this one.
struct VirtualPiece {
  std::string file;     ///< plain name beside the virtual file, so that a moved folder still works
  std::string dataset;  ///< path inside that file
  Shape source_shape;
  Slab from;
  Slab to;
};

}  // namespace shoal::io
