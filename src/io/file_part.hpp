#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "shoal/io/atomic_file.hpp"

namespace shoal::io {

/// A file open for reading at any position.
class FilePart {
 public:
  explicit FilePart(std::filesystem::path path);  ///< InputError when it cannot be opened
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::int64_t size() const { return size_; }
  /// Bytes [at, at + into.size()); InputError when the file does not have them.
  void read(std::int64_t at, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  std::int64_t size_ = 0;
};

}  // namespace shoal::io
