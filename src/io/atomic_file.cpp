#include "shoal/io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "io/posix.hpp"

namespace shoal::io {
namespace fs = std::filesystem;

void FileDescriptorTraits::close(int fd) noexcept {
  ::close(fd);
}

void fail_errno(std::string_view action, const fs::path& path, Where at) {
  const int code = errno;
  fail("file", std::string{action} + " " + path.string() + ": " + std::strerror(code), at);
}

FileDescriptor open_descriptor(const fs::path& path, int flags) {
  FileDescriptor file{::open(path.c_str(), flags | O_CLOEXEC, 0644)};
  if (!file) fail_errno("cannot open", path);
  return file;
}

fs::path temporary_path(const fs::path& path) {
  fs::path plain = path.has_filename() ? path : path.parent_path();
  return plain += ".tmp";
}

void write_all(int fd, std::span<const std::byte> bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_errno("cannot write", path);
    if (count == 0) fail("file", "cannot write " + path.string() + ": nothing was accepted");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void sync_file(const fs::path& path) {
  const FileDescriptor file = open_descriptor(path, O_RDONLY);
  if (::fsync(file.get()) != 0) fail_errno("cannot sync", path);
}

void sync_directory(const fs::path& path) {
  const fs::path folder = path.empty() ? fs::path{"."} : path;
  const FileDescriptor file = open_descriptor(folder, O_RDONLY | O_DIRECTORY);
  // Some network file systems refuse to sync a folder; their rename is durable by itself.
  if (::fsync(file.get()) != 0 && errno != EINVAL) fail_errno("cannot sync", folder);
}

void rename_path(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_errno("cannot rename to", to);
}

AtomicFile::AtomicFile(fs::path path)
    : path_{std::move(path)},
      temporary_{temporary_path(path_)},
      file_{open_descriptor(temporary_, O_WRONLY | O_CREAT | O_TRUNC)} {}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  expect(static_cast<bool>(file_), "write after commit");
  write_all(file_.get(), bytes, temporary_);
  written_ += std::ssize(bytes);
}

void AtomicFile::commit() {
  expect(static_cast<bool>(file_), "an atomic file is committed once");
  if (::fsync(file_.get()) != 0) fail_errno("cannot sync", temporary_);
  file_ = FileDescriptor{};
  rename_path(temporary_, path_);
  committed_ = true;
  sync_directory(path_.parent_path());
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  AtomicFile file{path};
  file.write(text);
  file.commit();
}

std::string read_file(const fs::path& path, std::int64_t max_bytes) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  require(static_cast<bool>(file), "cannot open " + path.string() + ": " + std::strerror(errno));
  std::string text;
  std::vector<char> block(1 << 16);
  while (true) {
    const ssize_t count = ::read(file.get(), block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    require(count >= 0, "cannot read " + path.string() + ": " + std::strerror(errno));
    if (count == 0) return text;
    text.append(block.data(), static_cast<std::size_t>(count));
    require(std::ssize(text) <= max_bytes,
            path.string() + " is larger than the " + std::to_string(max_bytes) + " bytes allowed");
  }
}

FolderCommit::FolderCommit(fs::path path)
    : path_{std::move(path)}, temporary_{temporary_path(path_)} {
  std::error_code code;
  fs::remove_all(temporary_, code);
  fs::create_directories(temporary_, code);
  if (code) fail("file", "cannot create " + temporary_.string() + ": " + code.message());
}

FolderCommit::~FolderCommit() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void FolderCommit::commit() {
  for (const auto& entry : fs::recursive_directory_iterator{temporary_}) {
    entry.is_directory() ? sync_directory(entry.path()) : sync_file(entry.path());
  }
  sync_directory(temporary_);
  const fs::path old = fs::path{temporary_}.replace_extension(".old");
  std::error_code ignored;
  const bool replaces = fs::exists(path_);
  if (replaces) {
    fs::remove_all(old, ignored);
    rename_path(path_, old);
  }
  try {
    rename_path(temporary_, path_);
  } catch (...) {
    if (replaces) fs::rename(old, path_, ignored);
    throw;
  }
  committed_ = true;
  sync_directory(fs::absolute(path_).parent_path());
  if (replaces) fs::remove_all(old, ignored);
}

}  // namespace shoal::io
