#include <algorithm>
#include <cstring>
#include <deque>
#include <future>
#include <utility>

#include "io/chunk_codec.hpp"
#include "io/h5_impl.hpp"
#include "io/zstd_filter.hpp"

namespace shoal::io {
namespace {

/// Chunks being compressed at a time: bounds memory, keeps any usual pool busy.
constexpr std::size_t kMaxInFlight = 32;

/// How a row-major array is cut so that every chunk is one contiguous run of elements: full
/// trailing dimensions, a part of dimension `split`, one index of each dimension before it.
struct Chunking {
  std::vector<hsize_t> chunk;
  int split = 0;
  std::int64_t inner = 1;  ///< elements of one index of dimension `split`

  Chunking(const Shape& shape, std::int64_t max_elements) {
    chunk.assign(static_cast<std::size_t>(shape.rank()), 1);
    for (split = shape.rank() - 1;; --split) {
      const std::int64_t dim = std::max<std::int64_t>(shape[split], 1);
      const std::int64_t fits = std::max<std::int64_t>(max_elements / inner, 1);
      chunk[static_cast<std::size_t>(split)] = static_cast<hsize_t>(std::min(dim, fits));
      if (dim > fits || split == 0) break;
      inner *= dim;
    }
  }
  [[nodiscard]] std::int64_t part() const {
    return static_cast<std::int64_t>(chunk[static_cast<std::size_t>(split)]);
  }
  [[nodiscard]] std::int64_t chunk_elements() const { return part() * inner; }
};

[[nodiscard]] H5PropertyId creation_properties(const Chunking& chunking, const Storage& storage,
                                               std::int64_t unit) {
  H5PropertyId p{check_h5(H5Pcreate(H5P_DATASET_CREATE))};
  // Without a time stamp equal content is an equal file, whose hash can be compared.
  check_h5(H5Pset_obj_track_times(p.get(), false));
  check_h5(H5Pset_chunk(p.get(), static_cast<int>(chunking.chunk.size()), chunking.chunk.data()));
  check_h5(H5Pset_fill_time(p.get(), H5D_FILL_TIME_NEVER));
  if (storage.shuffle && unit > 1) check_h5(H5Pset_shuffle(p.get()));
  if (storage.compression == Compression::deflate) {
    check_h5(H5Pset_deflate(p.get(), static_cast<unsigned>(std::clamp(storage.level, 1, 9))));
  } else if (storage.compression == Compression::zstd) {
    const auto level = static_cast<unsigned>(storage.level);
    check_h5(H5Pset_filter(p.get(), kZstdFilterId, H5Z_FLAG_OPTIONAL, 1, &level));
  }
  check_h5(H5Pset_fletcher32(p.get()));
  return p;
}

[[nodiscard]] H5DatasetId create_dataset(hid_t file, const DatasetSpec& spec, hid_t space,
                                         hid_t properties) {
  const H5PropertyId links{check_h5(H5Pcreate(H5P_LINK_CREATE))};
  check_h5(H5Pset_create_intermediate_group(links.get(), 1));
  H5DatasetId id{check_h5(H5Dcreate2(file, spec.path.c_str(), make_h5_type(spec.type).get(), space,
                                     links.get(), properties, H5P_DEFAULT))};
  if (spec.type == H5Type::bf16) write_string_attribute(id.get(), "dtype", "bf16");
  return id;
}

}  // namespace

struct H5Stream::Impl {
  struct Pending {
    std::future<PackedChunk> chunk;
    std::vector<hsize_t> offset;
    std::int64_t elements_so_far;
  };

  Shape shape;
  bool growing;
  std::int64_t unit;
  Storage storage;
  std::string where;
  ThreadPool* pool;
  Chunking chunking;
  H5DatasetId id = {};
  std::vector<std::byte> open_chunk = {};  ///< elements of the chunk being filled
  std::int64_t chunks = 0;
  std::int64_t elements = 0;  ///< handed over to chunks so far
  bool finished = false;
  std::deque<Pending> pending = {};

  /// Elements of chunk number `chunks`: fewer at the far end of the split dimension.
  [[nodiscard]] std::int64_t next_chunk_elements() const {
    if (growing) return chunking.part();
    const std::int64_t dim = shape[chunking.split];
    const std::int64_t blocks = (dim + chunking.part() - 1) / chunking.part();
    const std::int64_t block = chunks % blocks;
    return std::min(chunking.part(), dim - block * chunking.part()) * chunking.inner;
  }

  [[nodiscard]] std::vector<hsize_t> next_offset() const {
    std::vector<hsize_t> offset(chunking.chunk.size(), 0);
    const std::int64_t dim = growing ? 0 : shape[chunking.split];
    const std::int64_t blocks =
        growing ? chunks + 1 : (dim + chunking.part() - 1) / chunking.part();
    offset[static_cast<std::size_t>(chunking.split)] =
        static_cast<hsize_t>(chunks % blocks) * static_cast<hsize_t>(chunking.part());
    std::int64_t outer = chunks / blocks;
    for (int i = chunking.split - 1; i >= 0; --i) {
      offset[static_cast<std::size_t>(i)] = static_cast<hsize_t>(outer % shape[i]);
      outer /= shape[i];
    }
    return offset;
  }

  void close_chunk() {
    elements += std::ssize(open_chunk) / unit;
    auto offset = next_offset();
    open_chunk.resize(static_cast<std::size_t>(chunking.chunk_elements() * unit));
    auto task = [plain = std::move(open_chunk), size = unit, how = storage] {
      return pack_chunk(plain, size, how);
    };
    std::future<PackedChunk> packed;
    if (pool != nullptr) {
      packed = pool->submit(std::move(task));
    } else {
      std::promise<PackedChunk> now;
      now.set_value(task());
      packed = now.get_future();
    }
    pending.push_back({std::move(packed), std::move(offset), elements});
    open_chunk = {};
    ++chunks;
    while (pending.size() > (pool != nullptr ? kMaxInFlight : 0)) store_first();
  }

  void store_first() {
    Pending first = std::move(pending.front());
    pending.pop_front();
    const PackedChunk packed = first.chunk.get();
    const auto lock = h5_lock();
    if (growing) {
      const auto length = static_cast<hsize_t>(first.elements_so_far);
      check_h5(H5Dset_extent(id.get(), &length));
    }
    if (H5Dwrite_chunk(id.get(), H5P_DEFAULT, packed.filter_mask, first.offset.data(),
                       packed.bytes.size(), packed.bytes.data()) < 0) {
      fail("HDF5", "cannot write " + where + ": " + h5_error_stack());
    }
  }
};

H5Stream::H5Stream(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
H5Stream::H5Stream(H5Stream&&) noexcept = default;
H5Stream& H5Stream::operator=(H5Stream&&) noexcept = default;
H5Stream::~H5Stream() = default;

void H5Stream::append(std::span<const std::byte> bytes) {
  Impl& s = *impl_;
  expect(!s.finished && std::ssize(bytes) % s.unit == 0, s.where + ": append of a broken element");
  const std::int64_t given = s.elements + (std::ssize(s.open_chunk) + std::ssize(bytes)) / s.unit;
  expect(s.growing || given <= s.shape.elements(), s.where + ": more elements than its shape has");
  while (!bytes.empty()) {
    const auto full = static_cast<std::size_t>(s.next_chunk_elements() * s.unit);
    const std::size_t count = std::min(bytes.size(), full - s.open_chunk.size());
    s.open_chunk.insert(s.open_chunk.end(), bytes.begin(),
                        bytes.begin() + static_cast<std::ptrdiff_t>(count));
    bytes = bytes.subspan(count);
    if (s.open_chunk.size() == full) s.close_chunk();
  }
}

void H5Stream::finish() {
  Impl& s = *impl_;
  if (!s.open_chunk.empty() && s.growing) s.close_chunk();
  expect(s.growing || s.elements == s.shape.elements(),
         s.where + ": fewer elements than its shape has");
  while (!s.pending.empty()) s.store_first();
  s.finished = true;
  s.id = H5DatasetId{};
}

H5Stream H5File::stream(const DatasetSpec& spec, ThreadPool* pool) {
  const auto lock = h5_lock();
  const std::string where = impl_->temporary.string() + ": dataset " + spec.path;
  expect(!impl_->temporary.empty(), where + ": the file is open for reading");
  expect(spec.growing || spec.shape.rank() >= 1, where + ": a dataset needs a dimension");
  const std::int64_t unit = size_of(spec.type);
  const std::int64_t per_chunk = std::max<std::int64_t>(spec.storage.chunk_bytes / unit, 1);
  const Chunking chunking{spec.growing ? Shape{per_chunk} : spec.shape, per_chunk};
  const hsize_t none = 0, unlimited = H5S_UNLIMITED;
  const H5SpaceId space = spec.growing ? H5SpaceId{check_h5(H5Screate_simple(1, &none, &unlimited))}
                                       : make_space(spec.shape);
  auto impl = std::make_unique<H5Stream::Impl>(
      H5Stream::Impl{spec.shape, spec.growing, unit, spec.storage, where, pool, chunking});
  impl->id = create_dataset(impl_->id.get(), spec, space.get(),
                            creation_properties(chunking, spec.storage, unit).get());
  return H5Stream{std::move(impl)};
}

void H5File::write(const DatasetSpec& spec, std::span<const std::byte> values, ThreadPool* pool) {
  H5Stream out = stream(spec, pool);
  out.append(values);
  out.finish();
}

void H5File::write_virtual(const DatasetSpec& spec, std::span<const VirtualPiece> pieces) {
  const auto lock = h5_lock();
  const H5PropertyId p{check_h5(H5Pcreate(H5P_DATASET_CREATE))};
  check_h5(H5Pset_obj_track_times(p.get(), false));
  const H5SpaceId space = make_space(spec.shape);
  const auto select = [](const H5SpaceId& target, const Slab& slab) {
    const std::vector<hsize_t> start(slab.start.begin(), slab.start.end());
    const std::vector<hsize_t> count(slab.count.begin(), slab.count.end());
    check_h5(H5Sselect_hyperslab(target.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(),
                                 nullptr));
  };
  for (const VirtualPiece& piece : pieces) {
    expect(piece.file.find('/') == std::string::npos,
           "virtual pieces lie in files beside the index");
    expect(piece.from.elements() == piece.to.elements(), spec.path + ": a piece changes its size");
    if (piece.to.elements() == 0) continue;
    const H5SpaceId source = make_space(piece.source_shape);
    select(source, piece.from);
    select(space, piece.to);
    check_h5(H5Pset_virtual(p.get(), space.get(), piece.file.c_str(), piece.dataset.c_str(),
                            source.get()));
  }
  check_h5(H5Sselect_all(space.get()));
  const H5DatasetId id = create_dataset(impl_->id.get(), spec, space.get(), p.get());
}

}  // namespace shoal::io
