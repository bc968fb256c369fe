#include "data/source_file.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "shoal/base/error.hpp"

namespace shoal::data {
namespace {

class FileFrom final : public io::ByteReader {
 public:
  FileFrom(const std::filesystem::path& path, std::int64_t begin)
      : path_{path}, file_{path, std::ios::binary} {
    require(file_.good(), path.string() + ": cannot be opened: " + std::strerror(errno));
    file_.seekg(begin);
  }

  std::size_t read(std::span<std::byte> into) override {
    file_.read(reinterpret_cast<char*>(into.data()), static_cast<std::streamsize>(into.size()));
    require(!file_.bad(), path_.string() + ": reading failed: " + std::strerror(errno));
    return static_cast<std::size_t>(file_.gcount());
  }
  [[nodiscard]] const std::filesystem::path& path() const override { return path_; }

 private:
  std::filesystem::path path_;
  std::ifstream file_;
};

}  // namespace

std::unique_ptr<io::ByteReader> open_from(const std::filesystem::path& path, std::int64_t begin) {
  return std::make_unique<FileFrom>(path, begin);
}

bool is_packed(const std::filesystem::path& path) {
  std::array<std::byte, 4> magic{};
  const std::size_t n = open_from(path, 0)->read(magic);
  const auto starts = [&](std::initializer_list<int> bytes) {
    std::size_t i = 0;
    for (const int b : bytes) {
      if (i >= n || magic[i++] != static_cast<std::byte>(b)) return false;
    }
    return true;
  };
  return starts({0x1F, 0x8B}) || starts({0x28, 0xB5, 0x2F, 0xFD});
}

bool looks_binary(std::span<const std::byte> start) {
  std::size_t controls = 0;
  for (const std::byte b : start.first(std::min<std::size_t>(start.size(), kSniffBytes))) {
    const auto c = static_cast<unsigned char>(b);
    if (c == 0) return true;
    if (c < 32 && (c < '\t' || c > '\r')) ++controls;
  }
  return 10 * controls > 3 * start.size();
}

bool is_binary_file(const std::filesystem::path& path) {
  std::vector<std::byte> start(kSniffBytes);
  const auto reader = io::open_reader(path);
  start.resize(reader->read(start));
  return looks_binary(start);
}

}  // namespace shoal::data
