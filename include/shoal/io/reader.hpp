#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace shoal::io {

/// A stream of bytes, read once from front to back.
class ByteReader {
 public:
  virtual ~ByteReader() = default;
  /// Fills a front part of `into`; 0 means the end. InputError names the file when it cannot be
  /// read, is damaged or is cut short.
  [[nodiscard]] virtual std::size_t read(std::span<std::byte> into) = 0;
  [[nodiscard]] virtual const std::filesystem::path& path() const = 0;
};

/// The file as it is.
[[nodiscard]] std::unique_ptr<ByteReader> open_plain_reader(const std::filesystem::path& path);
/// Unpacks gzip and zstd, known by their first bytes whatever the name; several members or frames
/// in a row are one stream. Memory is bounded (a zstd window of at most 128 MiB).
[[nodiscard]] std::unique_ptr<ByteReader> open_reader(const std::filesystem::path& path);

/// Lines of a stream without their ends ("\n" or "\r\n"); the last one may lack its end.
class LineReader {
 public:
  LineReader(std::unique_ptr<ByteReader> source, std::int64_t max_line_bytes);
  /// False at the end. InputError when a line exceeds the limit, naming file and line.
  [[nodiscard]] bool next(std::string& line);
  [[nodiscard]] std::int64_t line_number() const { return line_; }  ///< of the last line, from 1
  [[nodiscard]] const std::filesystem::path& path() const { return source_->path(); }

 private:
  [[nodiscard]] bool refill();

  std::unique_ptr<ByteReader> source_;
  std::int64_t max_line_bytes_;
  std::vector<std::byte> block_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  std::int64_t line_ = 0;
};

}  // namespace shoal::io
