#include "shoal/io/png.hpp"

#include <zlib.h>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "io/deflate.hpp"
#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"

namespace shoal::io {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr int kLevel = 6;

void append_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((value >> shift) & 0xFFU);
}

/// Length, name, data, checksum of name and data.
void append_chunk(std::string& out, std::string_view name, std::string_view data) {
  append_u32(out, static_cast<std::uint32_t>(data.size()));
  const std::size_t begin = out.size();
  out += name;
  out += data;
  const auto* bytes = reinterpret_cast<const Bytef*>(out.data() + begin);
  append_u32(out,
             static_cast<std::uint32_t>(crc32(0L, bytes, static_cast<uInt>(out.size() - begin))));
}

/// Width, height, 8 bits a sample, true colour, standard compression and filters, no interlace.
std::string header_of(const RgbImage& image) {
  std::string header;
  append_u32(header, static_cast<std::uint32_t>(image.width));
  append_u32(header, static_cast<std::uint32_t>(image.height));
  return header + "\x08\x02\x00\x00\x00"s;
}

/// Each row behind the number of its filter; 0 means none.
std::vector<std::byte> filtered(const RgbImage& image) {
  std::vector<std::byte> rows;
  const auto stride = static_cast<std::size_t>(3 * image.width);
  rows.reserve((stride + 1) * static_cast<std::size_t>(image.height));
  for (std::size_t at = 0; at < image.rgb.size(); at += stride) {
    rows.push_back(std::byte{0});
    const auto row = std::as_bytes(image.rgb.subspan(at, stride));
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

}  // namespace

void write_png(const std::filesystem::path& path, const RgbImage& image) {
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  expect(image.width > 0 && image.height > 0 && image.height <= kLimit / 3 / image.width,
         "write_png: an image of this size cannot be written");
  expect(std::ssize(image.rgb) == 3 * image.width * image.height,
         "write_png: three bytes for each pixel");
  const std::vector<std::byte> packed = compress_deflate(filtered(image), kLevel);
  std::string file{"\x89PNG\r\n\x1A\n"sv};
  append_chunk(file, "IHDR", header_of(image));
  append_chunk(file, "IDAT", {reinterpret_cast<const char*>(packed.data()), packed.size()});
  append_chunk(file, "IEND", {});
  write_file_atomically(path, file);
}

}  // namespace shoal::io
