#include "io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "io/file_part.hpp"
#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"

namespace shoal::io {
namespace {

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kMaxHeaderBytes = 100'000'000;
constexpr std::array<std::pair<std::string_view, DType>, 3> kDtypes{
    {{"F32", DType::f32}, {"F16", DType::f16}, {"BF16", DType::bf16}}};

[[nodiscard]] DType dtype_of(const std::string& text, const std::string& where) {
  for (const auto& [known, dtype] : kDtypes) {
    if (known == text) return dtype;
  }
  throw InputError{where + ": dtype " + text + " is not supported, allowed are F32, F16 and BF16"};
}

[[nodiscard]] std::string_view text_of(DType dtype) {
  for (const auto& [text, known] : kDtypes) {
    if (known == dtype) return text;
  }
  fail("safetensors", "only f32, f16 and bf16 tensors are written");
}

/// Non-negative and at most 2^63 - 1: what is_number_unsigned alone does not promise.
[[nodiscard]] std::int64_t size_value(const Json& value, const std::string& where) {
  require(value.is_number_unsigned() && value.get<std::uint64_t>() <= std::uint64_t{INT64_MAX},
          where + ": sizes and offsets must be whole numbers from 0 up");
  return value.get<std::int64_t>();
}

[[nodiscard]] Shape shape_of(const Json& dims, std::int64_t unit, const std::string& where) {
  require(dims.is_array() && std::ssize(dims) <= Shape::kMaxRank,
          where + ": \"shape\" must be a list of at most 5 numbers");
  Shape shape;
  std::int64_t bytes = unit;
  for (const Json& dim : dims) {
    shape.push_back(size_value(dim, where));
    require(!__builtin_mul_overflow(bytes, shape.back(), &bytes), where + ": impossible shape");
  }
  return shape;
}

[[nodiscard]] PlacedTensor placed_tensor(const std::string& name, const Json& entry,
                                         const std::filesystem::path& path) {
  const std::string where = path.string() + ": tensor " + name;
  require(entry.is_object() && entry.size() == 3 && entry.contains("shape") &&
              entry.contains("data_offsets"),
          where + ": expected exactly dtype, shape and data_offsets");
  PlacedTensor placed{.tensor = {.name = name}};
  placed.tensor.dtype = dtype_of(get_field<std::string>(entry, "dtype", where), where);
  placed.tensor.shape = shape_of(entry["shape"], shoal::size_of(placed.tensor.dtype), where);
  const Json& offsets = entry["data_offsets"];
  require(offsets.is_array() && offsets.size() == 2, where + ": data_offsets must be two numbers");
  placed.begin = size_value(offsets[0], where);
  const std::int64_t end = size_value(offsets[1], where);
  require(placed.begin <= end && end - placed.begin == placed.tensor.bytes(),
          where + ": its data_offsets do not fit its shape and dtype");
  return placed;
}

void check_cover(std::vector<PlacedTensor>& all, std::int64_t data_bytes,
                 const std::filesystem::path& path) {
  std::sort(all.begin(), all.end(), [](const PlacedTensor& a, const PlacedTensor& b) {
    return std::pair{a.begin, a.tensor.bytes()} < std::pair{b.begin, b.tensor.bytes()};
  });
  std::int64_t end = 0;
  for (const PlacedTensor& placed : all) {
    require(placed.begin == end,
            path.string() + ": tensor " + placed.tensor.name +
                (placed.begin < end ? " overlaps another one" : " leaves a hole before it"));
    end += placed.tensor.bytes();
  }
  require(end == data_bytes, path.string() + ": the tensors take " + std::to_string(end) +
                                 " bytes, the file has " + std::to_string(data_bytes));
}

[[nodiscard]] std::string header_text(const FilePart& file) {
  const std::string where = file.path().string();
  require(file.size() >= kLengthBytes, where + " is too short for a safetensors file");
  std::array<std::byte, kLengthBytes> raw{};
  file.read(0, raw);
  const auto length = std::bit_cast<std::uint64_t>(raw);
  require(length <= std::uint64_t{kMaxHeaderBytes},
          where + ": its header claims " + std::to_string(length) +
              " bytes, allowed are 100000000 (is it a safetensors file?)");
  require(static_cast<std::int64_t>(length) <= file.size() - kLengthBytes,
          where + " ends inside its header");
  std::string text(length, '\0');
  file.read(kLengthBytes, std::as_writable_bytes(std::span{text}));
  require(text.starts_with('{'), where + ": the header is not a JSON object");
  return text;
}

}  // namespace

std::vector<PlacedTensor> read_safetensors_header(const std::filesystem::path& path) {
  static_assert(std::endian::native == std::endian::little, "files are little-endian");
  const FilePart file{path};
  const std::string text = header_text(file);
  const Json header = parse_json(text, path.string());
  std::vector<PlacedTensor> all;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") all.push_back(placed_tensor(name, entry, path));
  }
  const std::int64_t data = kLengthBytes + std::ssize(text);
  check_cover(all, file.size() - data, path);
  for (PlacedTensor& placed : all) placed.begin += data;
  return all;
}

std::string make_safetensors_header(const std::vector<SafeTensor>& tensors, const Json& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t begin = 0;
  for (const SafeTensor& tensor : tensors) {
    Json shape = Json::array();
    for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
    const std::int64_t end = begin + tensor.bytes();
    header[tensor.name] = {{"dtype", text_of(tensor.dtype)},
                           {"shape", std::move(shape)},
                           {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize(static_cast<std::size_t>(round_up(std::ssize(text), 8)), ' ');
  require(std::ssize(text) <= kMaxHeaderBytes, "too many tensors for one safetensors file");
  std::string file(kLengthBytes, '\0');
  const auto length = static_cast<std::uint64_t>(text.size());
  std::memcpy(file.data(), &length, sizeof length);
  return file + text;
}

}  // namespace shoal::io
