#include <map>
#include <utility>

#include "io/file_part.hpp"
#include "io/safetensors_header.hpp"
#include "shoal/base/error.hpp"

namespace shoal::io {
namespace {

namespace fs = std::filesystem;

struct Found {
  PlacedTensor placed;
  std::size_t file = 0;
};
using Tensors = std::map<std::string, Found, std::less<>>;

/// File of each tensor as the index says.
[[nodiscard]] std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const Json json = read_json_file(index);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  require(map != json.end() && map->is_object(),
          index.string() + ": \"weight_map\" must be an object");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    const auto name = file.is_string() ? file.get<std::string>() : std::string{};
    require(!name.empty() && name.find('/') == std::string::npos && name[0] != '.',
            index.string() + ": the file of " + tensor + " is not a plain file name");
    files[tensor] = name;
  }
  return files;
}

}  // namespace

struct SafeTensorsReader::Impl {
  std::vector<FilePart> files;
  Tensors tensors;

  void add_file(const fs::path& path) {
    for (PlacedTensor& placed : read_safetensors_header(path)) {
      const std::string name = placed.tensor.name;
      const bool fresh = tensors.emplace(name, Found{std::move(placed), files.size()}).second;
      require(fresh, path.string() + ": tensor " + name + " is in another file too");
    }
    files.emplace_back(path);
  }

  void add_sharded(const fs::path& folder, const fs::path& index) {
    const auto weight_map = read_weight_map(index);
    std::map<std::string, std::size_t> opened;
    for (const auto& [tensor, file] : weight_map) {
      if (opened.contains(file)) continue;
      opened[file] = files.size();
      add_file(folder / file);
    }
    for (const auto& [tensor, file] : weight_map) {
      const auto found = tensors.find(tensor);
      require(found != tensors.end() && found->second.file == opened[file],
              index.string() + ": tensor " + tensor + " is not in " + file);
    }
    require(weight_map.size() == tensors.size(),
            index.string() + " lists " + std::to_string(weight_map.size()) +
                " tensors, its files hold " + std::to_string(tensors.size()));
  }

  [[nodiscard]] const Found& at(std::string_view name) const {
    const auto found = tensors.find(name);
    require(found != tensors.end(), "the checkpoint " + files.front().path().string() +
                                        " has no tensor " + std::string{name});
    return found->second;
  }
};

SafeTensorsReader::SafeTensorsReader(const fs::path& path) : impl_{std::make_unique<Impl>()} {
  const fs::path index = path / "model.safetensors.index.json";
  const fs::path single = path / "model.safetensors";
  if (!fs::is_directory(path)) {
    impl_->add_file(path);
  } else if (fs::exists(index)) {
    impl_->add_sharded(path, index);
  } else {
    require(fs::exists(single),
            path.string() + " has neither model.safetensors nor " + index.filename().string());
    impl_->add_file(single);
  }
}

SafeTensorsReader::~SafeTensorsReader() = default;
SafeTensorsReader::SafeTensorsReader(SafeTensorsReader&&) noexcept = default;
SafeTensorsReader& SafeTensorsReader::operator=(SafeTensorsReader&&) noexcept = default;

std::vector<SafeTensor> SafeTensorsReader::tensors() const {
  std::vector<SafeTensor> all;
  for (const auto& [name, found] : impl_->tensors) all.push_back(found.placed.tensor);
  return all;
}

std::optional<SafeTensor> SafeTensorsReader::find(std::string_view name) const {
  const auto found = impl_->tensors.find(name);
  if (found == impl_->tensors.end()) return std::nullopt;
  return found->second.placed.tensor;
}

void SafeTensorsReader::read(std::string_view name, std::int64_t offset,
                             std::span<std::byte> into) const {
  const Found& found = impl_->at(name);
  expect(offset >= 0 && std::ssize(into) <= found.placed.tensor.bytes() - offset,
         "bytes outside the tensor " + std::string{name});
  impl_->files[found.file].read(found.placed.begin + offset, into);
}

std::vector<float> SafeTensorsReader::read_floats(std::string_view name) const {
  const SafeTensor& tensor = impl_->at(name).placed.tensor;
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  with_elem(tensor.dtype, [&](auto elem) {
    using Elem = decltype(elem);
    std::vector<Elem> stored(values.size());
    read(name, 0, std::as_writable_bytes(std::span{stored}));
    for (std::size_t i = 0; i < stored.size(); ++i) values[i] = to_float(stored[i]);
  });
  return values;
}

}  // namespace shoal::io
