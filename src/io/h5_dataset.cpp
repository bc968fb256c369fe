#include <algorithm>
#include <limits>
#include <utility>

#include "io/h5_impl.hpp"
#include "io/zstd_filter.hpp"

namespace shoal::io {
namespace {

/// No chunk of ours is larger; HDF5 keeps whole chunks in memory.
constexpr std::int64_t kMaxChunkBytes = std::int64_t{1} << 28;
/// Deflate reaches 1000:1, zstd more on constant data. Beyond this the size is a lie.
constexpr std::int64_t kMaxRatio = 1 << 16;

[[nodiscard]] H5Type stored_type(hid_t dataset, const std::string& where) {
  const H5TypeId type{require_h5(H5Dget_type(dataset), where)};
  const std::size_t size = H5Tget_size(type.get());
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind == H5T_FLOAT && size == 2) return H5Type::f16;
  if (kind == H5T_FLOAT && size == 4) return H5Type::f32;
  if (kind == H5T_FLOAT && size == 8) return H5Type::f64;
  const bool is_signed = kind == H5T_INTEGER && H5Tget_sign(type.get()) == H5T_SGN_2;
  if (is_signed && size == 4) return H5Type::i32;
  if (is_signed && size == 8) return H5Type::i64;
  if (kind == H5T_INTEGER && !is_signed) {
    if (size == 1) return H5Type::u8;
    if (size == 4) return H5Type::u32;
    if (size == 8) return H5Type::u64;
    if (size == 2 && H5Aexists(dataset, "dtype") > 0) {
      const H5AttributeId attribute{require_h5(H5Aopen(dataset, "dtype", H5P_DEFAULT), where)};
      if (read_string_attribute(attribute.get(), where) == "bf16") return H5Type::bf16;
    }
    if (size == 2) return H5Type::u16;
  }
  throw InputError{where + " has an element type that Shoal does not read"};
}

[[nodiscard]] Shape stored_shape(hid_t dataset, std::int64_t unit, const std::string& where) {
  const H5SpaceId space{require_h5(H5Dget_space(dataset), where)};
  const int rank = H5Sget_simple_extent_ndims(space.get());
  require(rank >= 1 && rank <= Shape::kMaxRank,
          where + " has " + std::to_string(rank) + " dimensions, allowed are 1 to 5");
  std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
  require_h5(H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr), where);
  Shape shape;
  std::int64_t bytes = unit;
  for (const hsize_t dim : dims) {
    const bool fits = dim <= static_cast<hsize_t>(std::numeric_limits<std::int64_t>::max()) &&
                      !__builtin_mul_overflow(bytes, static_cast<std::int64_t>(dim), &bytes);
    require(fits, where + " claims an impossible size");
    shape.push_back(static_cast<std::int64_t>(dim));
  }
  return shape;
}

void check_filters(hid_t properties, const std::string& where) {
  for (int i = 0; i < H5Pget_nfilters(properties); ++i) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(properties, static_cast<unsigned>(i), &flags,
                                               &values, nullptr, 0, nullptr, &config);
    const bool known = filter == H5Z_FILTER_SHUFFLE || filter == H5Z_FILTER_DEFLATE ||
                       filter == H5Z_FILTER_FLETCHER32 || filter == kZstdFilterId;
    require(known, where + " uses the HDF5 filter " + std::to_string(filter) +
                       "; allowed are shuffle, deflate, zstd and fletcher32");
  }
}

void check_chunks(hid_t properties, std::int64_t unit, const std::string& where) {
  std::vector<hsize_t> chunk(Shape::kMaxRank);
  const int rank = require_h5(H5Pget_chunk(properties, Shape::kMaxRank, chunk.data()), where);
  std::int64_t bytes = unit;
  for (int i = 0; i < rank; ++i) {
    const auto dim = static_cast<std::int64_t>(chunk[static_cast<std::size_t>(i)]);
    require(!__builtin_mul_overflow(bytes, dim, &bytes) && bytes <= kMaxChunkBytes,
            where + " has chunks above 256 MiB");
  }
}

void check_virtual_sources(hid_t properties, const std::string& where) {
  std::size_t count = 0;
  require_h5(H5Pget_virtual_count(properties, &count), where);
  for (std::size_t i = 0; i < count; ++i) {
    std::string file(512, '\0');
    const ssize_t size = H5Pget_virtual_filename(properties, i, file.data(), file.size());
    const bool plain =
        size > 0 && size < std::ssize(file) &&
        file.substr(0, static_cast<std::size_t>(size)).find('/') == std::string::npos &&
        file[0] != '.';
    require(plain, where + " refers to a file outside its own folder");
  }
}

/// Returns whether the dataset is virtual.
[[nodiscard]] bool check_layout(hid_t dataset, std::int64_t unit, const std::string& where) {
  const H5PropertyId properties{require_h5(H5Dget_create_plist(dataset), where)};
  require(H5Pget_external_count(properties.get()) == 0, where + " keeps its data in another file");
  check_filters(properties.get(), where);
  const H5D_layout_t layout = H5Pget_layout(properties.get());
  if (layout == H5D_CHUNKED) check_chunks(properties.get(), unit, where);
  if (layout == H5D_VIRTUAL) check_virtual_sources(properties.get(), where);
  return layout == H5D_VIRTUAL;
}

}  // namespace

bool link_path_exists(hid_t file, const std::string& file_name, const std::string& path) {
  std::size_t at = 0;
  while (at < path.size()) {
    at = path.find_first_not_of('/', at);
    if (at == std::string::npos) break;
    at = std::min(path.find('/', at), path.size());
    const std::string prefix = path.substr(0, at);
    if (H5Lexists(file, prefix.c_str(), H5P_DEFAULT) <= 0) {
      H5Eclear2(H5E_DEFAULT);
      return false;
    }
    H5L_info_t info;
    require_h5(H5Lget_info(file, prefix.c_str(), &info, H5P_DEFAULT), file_name);
    require(info.type == H5L_TYPE_HARD,
            file_name + ": " + prefix + " is a link out of its place, which is not followed");
  }
  return true;
}

std::unique_ptr<H5Dataset::Impl> open_checked_dataset(hid_t file, const std::string& file_name,
                                                      const std::string& path) {
  if (!link_path_exists(file, file_name, path)) return nullptr;
  const std::string where = file_name + ": dataset " + path;
  H5DatasetId id{H5Dopen2(file, path.c_str(), H5P_DEFAULT)};
  require_h5(id.get(), where);
  const H5Type type = stored_type(id.get(), where);
  const Shape shape = stored_shape(id.get(), size_of(type), where);
  const bool is_virtual = check_layout(id.get(), size_of(type), where);
  const auto stored = static_cast<std::int64_t>(H5Dget_storage_size(id.get()));
  require(is_virtual || shape.elements() * size_of(type) / kMaxRatio <= stored,
          where + " claims far more data than the file holds");
  return std::make_unique<H5Dataset::Impl>(
      H5Dataset::Impl{std::move(id), where, type, shape, is_virtual, stored});
}

H5SpaceId make_space(const Shape& shape) {
  std::vector<hsize_t> dims;
  dims.reserve(Shape::kMaxRank);
  for (int i = 0; i < shape.rank(); ++i) dims.push_back(static_cast<hsize_t>(shape[i]));
  return H5SpaceId{check_h5(H5Screate_simple(shape.rank(), dims.data(), nullptr))};
}

H5Dataset::H5Dataset(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
H5Dataset::H5Dataset(H5Dataset&&) noexcept = default;
H5Dataset& H5Dataset::operator=(H5Dataset&&) noexcept = default;
H5Dataset::~H5Dataset() = default;

H5Type H5Dataset::type() const {
  return impl_->type;
}
const Shape& H5Dataset::shape() const {
  return impl_->shape;
}
bool H5Dataset::is_virtual() const {
  return impl_->is_virtual;
}
std::int64_t H5Dataset::stored_bytes() const {
  return impl_->stored_bytes;
}

Slab H5Dataset::whole() const {
  Slab slab;
  for (int i = 0; i < impl_->shape.rank(); ++i) {
    slab.start.push_back(0);
    slab.count.push_back(impl_->shape[i]);
  }
  return slab;
}

void H5Dataset::expect_type(H5Type wanted) const {
  require(wanted == impl_->type, impl_->where + " holds " + std::string{name(impl_->type)} +
                                     " elements, expected " + std::string{name(wanted)});
}

void H5Dataset::read(const Slab& slab, std::span<std::byte> into) const {
  const int rank = impl_->shape.rank();
  expect(std::ssize(slab.start) == rank && std::ssize(slab.count) == rank,
         impl_->where + ": a box of another rank");
  std::vector<hsize_t> start, count;
  for (int i = 0; i < rank; ++i) {
    const std::int64_t s = slab.start[static_cast<std::size_t>(i)];
    const std::int64_t n = slab.count[static_cast<std::size_t>(i)];
    expect(s >= 0 && n >= 0 && s <= impl_->shape[i] && n <= impl_->shape[i] - s,
           impl_->where + ": " + to_string(slab) + " lies outside " + to_string(impl_->shape));
    start.push_back(static_cast<hsize_t>(s));
    count.push_back(static_cast<hsize_t>(n));
  }
  expect(std::ssize(into) == slab.elements() * size_of(impl_->type),
         impl_->where + ": the buffer does not fit the box");
  if (into.empty()) return;
  const auto lock = h5_lock();
  const H5SpaceId file_space{check_h5(H5Dget_space(impl_->id.get()))};
  check_h5(H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr,
                               count.data(), nullptr));
  const H5SpaceId memory{check_h5(H5Screate_simple(rank, count.data(), nullptr))};
  const H5TypeId type = make_h5_type(impl_->type);
  require_h5(H5Dread(impl_->id.get(), type.get(), memory.get(), file_space.get(), H5P_DEFAULT,
                     into.data()),
             impl_->where + " " + to_string(slab) + " cannot be read");
}

}  // namespace shoal::io
