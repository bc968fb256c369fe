#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/base/thread_pool.hpp"
#include "shoal/io/h5_types.hpp"

namespace shoal::io {

/// A dataset open for reading. Valid while its file is open.
class H5Dataset {
 public:
  H5Dataset(H5Dataset&&) noexcept;
  H5Dataset& operator=(H5Dataset&&) noexcept;
  ~H5Dataset();

  [[nodiscard]] H5Type type() const;
  [[nodiscard]] const Shape& shape() const;
  [[nodiscard]] bool is_virtual() const;
  [[nodiscard]] std::int64_t stored_bytes() const;  ///< in the file, compressed

  /// Row-major elements of the box. A damaged chunk (checksum) is an InputError that names file,
  /// dataset and box; a box outside the dataset is a broken invariant.
  void read(const Slab& slab, std::span<std::byte> into) const;
  template <class T>
  [[nodiscard]] std::vector<T> read_as(const Slab& slab) const {
    expect_type(h5_type_of<T>());
    std::vector<T> values(static_cast<std::size_t>(slab.elements()));
    read(slab, std::as_writable_bytes(std::span{values}));
    return values;
  }
  template <class T>
  [[nodiscard]] std::vector<T> read_all() const {
    return read_as<T>(whole());
  }
  [[nodiscard]] Slab whole() const;

  struct Impl;  ///< known to src/io alone

 private:
  friend class H5File;
  explicit H5Dataset(std::unique_ptr<Impl> impl);
  void expect_type(H5Type wanted) const;  ///< InputError
  std::unique_ptr<Impl> impl_;
};

/// A dataset being written front to back in row-major order, in parts of any size. Chunks are
/// shuffled, compressed and checksummed by the pool's threads and stored as they are; a bounded
/// number is in flight.
class H5Stream {
 public:
  H5Stream(H5Stream&&) noexcept;
  H5Stream& operator=(H5Stream&&) noexcept;
  ~H5Stream();  ///< without finish() the dataset is incomplete

  void append(std::span<const std::byte> bytes);
  template <class T>
  void append_values(std::span<const T> values) {
    append(std::as_bytes(values));
  }
  /// Stores the last chunk. A dataset of fixed shape must be full by now; a growing one gets its
  /// final length.
  void finish();

 private:
  friend class H5File;
  struct Impl;
  explicit H5Stream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// What to create. `growing`: one dimension whose length is known at finish(); shape is ignored.
struct DatasetSpec {
  std::string path;
  H5Type type = H5Type::f32;
  Shape shape;
  bool growing = false;
  Storage storage = {};
};

/// An HDF5 file. Every HDF5 call of the process goes through one lock, so files may be used from
/// several threads. Library failures are Error with HDF5's own text; what is wrong in a file that
/// is read is InputError naming it.
class H5File {
 public:
  /// Writes `path.tmp`; commit() makes it `path`. Without commit() it is removed.
  [[nodiscard]] static H5File create(const std::filesystem::path& path);
  /// Read-only, and wary, as the file may come from anywhere: no plug-ins, no links out of the
  /// file, no external storage, only our filters and types. Virtual datasets may only name plain
  /// files beside this one.
  [[nodiscard]] static H5File open(const std::filesystem::path& path);

  H5File(H5File&&) noexcept;
  H5File& operator=(H5File&&) noexcept;
  ~H5File();

  [[nodiscard]] const std::filesystem::path& path() const;
  /// Closes, syncs to disk, renames. All datasets and streams must be gone or finished.
  void commit();

  void create_group(const std::string& path);  ///< parents are made as needed
  [[nodiscard]] bool has(const std::string& path) const;
  [[nodiscard]] std::vector<std::string> list(const std::string& group) const;  ///< names, sorted

  void set_attribute(const std::string& object, const std::string& name, std::int64_t value);
  void set_attribute(const std::string& object, const std::string& name, double value);
  void set_attribute(const std::string& object, const std::string& name, const std::string& value);
  [[nodiscard]] bool has_attribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] std::int64_t int_attribute(const std::string& object,
                                           const std::string& name) const;
  [[nodiscard]] double double_attribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] std::string string_attribute(const std::string& object,
                                             const std::string& name) const;

  /// `pool` may be null: then the calling thread compresses.
  [[nodiscard]] H5Stream stream(const DatasetSpec& spec, ThreadPool* pool);
  void write(const DatasetSpec& spec, std::span<const std::byte> values, ThreadPool* pool);
  template <class T>
  void write_values(const std::string& path, std::span<const T> values,
                    const Storage& storage = {}) {
    write({.path = path,
           .type = h5_type_of<T>(),
           .shape = {static_cast<std::int64_t>(values.size())},
           .storage = storage},
          std::as_bytes(values), nullptr);
  }
  void write_virtual(const DatasetSpec& spec, std::span<const VirtualPiece> pieces);
  [[nodiscard]] H5Dataset dataset(const std::string& path) const;  ///< InputError when absent
  [[nodiscard]] std::optional<H5Dataset> find_dataset(const std::string& path) const;

  struct Impl;  ///< known to src/io alone

 private:
  explicit H5File(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::io
