#include "shoal/io/reader.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/unpack.hpp"
#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"

namespace shoal::io {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kBlockBytes = 1 << 18;

class PlainReader final : public ByteReader {
 public:
  explicit PlainReader(fs::path path)
      : path_{std::move(path)}, file_{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)} {
    require(static_cast<bool>(file_),
            "cannot open " + path_.string() + ": " + std::strerror(errno));
    require(!fs::is_directory(path_), path_.string() + " is a folder, expected a file");
  }

  [[nodiscard]] std::size_t read(std::span<std::byte> into) override {
    if (at_ < head_.size()) {
      const std::size_t count = std::min(into.size(), head_.size() - at_);
      std::copy_n(head_.begin() + static_cast<std::ptrdiff_t>(at_), count, into.begin());
      at_ += count;
      return count;
    }
    return read_file_part(into);
  }

  /// The first four bytes, which stay to be read.
  [[nodiscard]] std::span<const std::byte> peek() {
    head_.resize(4);
    std::size_t have = 0;
    while (have < head_.size()) {
      const std::size_t count = read_file_part(std::span{head_}.subspan(have));
      if (count == 0) break;
      have += count;
    }
    head_.resize(have);
    return head_;
  }

  [[nodiscard]] const fs::path& path() const override { return path_; }

 private:
  [[nodiscard]] std::size_t read_file_part(std::span<std::byte> into) {
    while (true) {
      const ssize_t count = ::read(file_.get(), into.data(), into.size());
      if (count >= 0) return static_cast<std::size_t>(count);
      require(errno == EINTR, "cannot read " + path_.string() + ": " + std::strerror(errno));
    }
  }

  fs::path path_;
  FileDescriptor file_;
  std::vector<std::byte> head_;
  std::size_t at_ = 0;
};

[[nodiscard]] bool starts_with(std::span<const std::byte> head,
                               std::initializer_list<unsigned> magic) {
  return head.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), head.begin(), [](unsigned m, std::byte b) {
           return std::byte{static_cast<unsigned char>(m)} == b;
         });
}

}  // namespace

std::unique_ptr<ByteReader> open_plain_reader(const fs::path& path) {
  return std::make_unique<PlainReader>(path);
}

std::unique_ptr<ByteReader> open_reader(const fs::path& path) {
  auto plain = std::make_unique<PlainReader>(path);
  const auto head = plain->peek();
  if (starts_with(head, {0x1F, 0x8B})) return make_gzip_reader(std::move(plain));
  if (starts_with(head, {0x28, 0xB5, 0x2F, 0xFD})) return make_zstd_reader(std::move(plain));
  return plain;
}

LineReader::LineReader(std::unique_ptr<ByteReader> source, std::int64_t max_line_bytes)
    : source_{std::move(source)}, max_line_bytes_{max_line_bytes}, block_(kBlockBytes) {}

bool LineReader::refill() {
  at_ = 0;
  end_ = source_->read(block_);
  return end_ > 0;
}

bool LineReader::next(std::string& line) {
  line.clear();
  bool any = false;
  while (at_ < end_ || refill()) {
    if (!any) ++line_;
    any = true;
    const auto* begin = reinterpret_cast<const char*>(block_.data()) + at_;
    const auto* found = static_cast<const char*>(std::memchr(begin, '\n', end_ - at_));
    const std::size_t count = found ? static_cast<std::size_t>(found - begin) : end_ - at_;
    line.append(begin, count);
    at_ += count + (found ? 1 : 0);
    require(std::ssize(line) <= max_line_bytes_, path().string() + ": line " +
                                                     std::to_string(line_) + " is longer than " +
                                                     std::to_string(max_line_bytes_) + " bytes");
    if (found) break;
  }
  if (any && !line.empty() && line.back() == '\r') line.pop_back();
  return any;
}

}  // namespace shoal::io
