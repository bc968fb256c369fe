#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "shoal/base/unique_handle.hpp"

namespace shoal::io {

struct FileDescriptorTraits {
  using Raw = int;
  static Raw null() noexcept { return -1; }
  static void close(Raw fd) noexcept;
};
using FileDescriptor = UniqueHandle<FileDescriptorTraits>;

/// A file that appears under its name complete or not at all: bytes go to `path.tmp`, commit()
/// syncs, renames and syncs the folder. Without commit() the old file stays and the temporary one
/// is removed. A full disk or a short write throws Error with the path and the system's text.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span{text})); }
  void commit();
  [[nodiscard]] std::int64_t bytes_written() const { return written_; }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileDescriptor file_;
  std::int64_t written_ = 0;
  bool committed_ = false;
};

void write_file_atomically(const std::filesystem::path& path, std::string_view text);
/// The whole file; InputError when it is missing, unreadable or larger than `max_bytes`.
[[nodiscard]] std::string read_file(const std::filesystem::path& path, std::int64_t max_bytes);

/// Writes all bytes to an open descriptor, or throws Error naming `path`.
void write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& path);
void sync_file(const std::filesystem::path& path);
void sync_directory(const std::filesystem::path& path);
void rename_path(const std::filesystem::path& from, const std::filesystem::path& to);

/// A folder that appears complete or not at all: fill temporary(), then commit() syncs every file
/// and folder in it and renames. An existing folder of that name is replaced only at commit, and
/// restored should the rename fail. A left-over of a killed run is cleared at the start. With
/// several ranks one of them owns the commit, the others only write into temporary().
class FolderCommit {
 public:
  explicit FolderCommit(std::filesystem::path path);
  ~FolderCommit();  ///< without commit() removes what was written
  FolderCommit(const FolderCommit&) = delete;
  FolderCommit& operator=(const FolderCommit&) = delete;

  [[nodiscard]] const std::filesystem::path& temporary() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

/// "dir/step-1" -> "dir/step-1.tmp": where every rank of a shared commit writes.
[[nodiscard]] std::filesystem::path temporary_path(const std::filesystem::path& path);

}  // namespace shoal::io
