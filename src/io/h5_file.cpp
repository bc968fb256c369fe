#include "shoal/io/h5_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <utility>

#include "io/h5_impl.hpp"
#include "shoal/io/atomic_file.hpp"

namespace shoal::io {
namespace {

namespace fs = std::filesystem;

void require_signature(const fs::path& path) {
  static constexpr std::array<char, 8> kSignature{'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  require(fs::is_regular_file(path), "cannot open " + path.string() + ": no such file");
  std::ifstream file{path, std::ios::binary};
  std::array<char, 8> head{};
  file.read(head.data(), head.size());
  require(file.gcount() == std::ssize(head) && head == kSignature,
          path.string() + " is not an HDF5 file");
}

[[nodiscard]] H5PropertyId file_access() {
  H5PropertyId access{check_h5(H5Pcreate(H5P_FILE_ACCESS))};
  check_h5(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG));
  return access;
}

[[nodiscard]] H5PropertyId link_creation() {
  H5PropertyId links{check_h5(H5Pcreate(H5P_LINK_CREATE))};
  check_h5(H5Pset_create_intermediate_group(links.get(), 1));
  return links;
}

[[noreturn]] void fail_to_write(const H5File::Impl& file) {
  fail("HDF5", "cannot write " + file.temporary.string() + ": " + h5_error_stack());
}

/// Closing a file that cannot be flushed (full disk) leaves the library with freed structures that
/// crash later. Such a file is left open instead: nothing is lost but a descriptor.
void flush_or_abandon(H5File::Impl& file) {
  const auto lock = h5_lock();
  if (!file.id || H5Fflush(file.id.get(), H5F_SCOPE_GLOBAL) >= 0) return;
  static_cast<void>(file.id.release());
  fail_to_write(file);
}

}  // namespace

H5File::H5File(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
H5File::H5File(H5File&&) noexcept = default;
H5File& H5File::operator=(H5File&&) noexcept = default;

H5File::~H5File() {
  if (!impl_ || impl_->temporary.empty()) return;
  try {
    flush_or_abandon(*impl_);
  } catch (const Error&) {  // the caller is being told already
  }
  impl_->id = H5FileId{};
  // An abandoned file stays open to the end of the process: give its room back now.
  static_cast<void>(::truncate(impl_->temporary.c_str(), 0));
  ::unlink(impl_->temporary.c_str());
}

const fs::path& H5File::path() const {
  return impl_->path;
}

H5File H5File::create(const fs::path& path) {
  const auto lock = h5_lock();
  auto impl = std::make_unique<Impl>(Impl{{}, path, temporary_path(path)});
  impl->id =
      H5FileId{H5Fcreate(impl->temporary.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, file_access().get())};
  if (!impl->id)
    fail("HDF5", "cannot create " + impl->temporary.string() + ": " + h5_error_stack());
  return H5File{std::move(impl)};
}

H5File H5File::open(const fs::path& path) {
  require_signature(path);
  const auto lock = h5_lock();
  auto impl = std::make_unique<Impl>(Impl{{}, path, {}});
  impl->id = H5FileId{H5Fopen(path.c_str(), H5F_ACC_RDONLY, file_access().get())};
  require_h5(impl->id.get(), path.string() + ": damaged HDF5 file");
  return H5File{std::move(impl)};
}

void H5File::commit() {
  expect(impl_ && !impl_->temporary.empty(), "commit of a file that is not being written");
  flush_or_abandon(*impl_);
  {
    const auto lock = h5_lock();
    if (H5Fclose(impl_->id.release()) < 0) fail_to_write(*impl_);
  }
  sync_file(impl_->temporary);
  rename_path(impl_->temporary, impl_->path);
  impl_->temporary.clear();
  sync_directory(impl_->path.parent_path());
}

void H5File::create_group(const std::string& path) {
  const auto lock = h5_lock();
  if (has(path)) return;
  const auto links = link_creation();
  const H5GroupId group{
      check_h5(H5Gcreate2(impl_->id.get(), path.c_str(), links.get(), H5P_DEFAULT, H5P_DEFAULT))};
}

bool H5File::has(const std::string& path) const {
  const auto lock = h5_lock();
  return link_path_exists(impl_->id.get(), impl_->path.string(), path);
}

std::vector<std::string> H5File::list(const std::string& group) const {
  const auto lock = h5_lock();
  require(has(group), impl_->path.string() + ": no group " + group);
  const H5GroupId id{H5Gopen2(impl_->id.get(), group.c_str(), H5P_DEFAULT)};
  require(static_cast<bool>(id), impl_->path.string() + ": " + group + " is not a group");
  H5G_info_t info;
  require_h5(H5Gget_info(id.get(), &info), impl_->path.string());
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    std::array<char, 1024> text{};
    require_h5(H5Lget_name_by_idx(id.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, text.data(),
                                  text.size(), H5P_DEFAULT),
               impl_->path.string());
    names.emplace_back(text.data());
  }
  return names;
}

std::optional<H5Dataset> H5File::find_dataset(const std::string& path) const {
  const auto lock = h5_lock();
  auto impl = open_checked_dataset(impl_->id.get(), impl_->path.string(), path);
  if (!impl) return std::nullopt;
  return H5Dataset{std::move(impl)};
}

H5Dataset H5File::dataset(const std::string& path) const {
  auto found = find_dataset(path);
  require(found.has_value(), impl_->path.string() + ": no dataset " + path);
  return std::move(*found);
}

}  // namespace shoal::io
