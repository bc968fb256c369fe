#include <array>
#include <map>

#include "shoal/base/error.hpp"
#include "shoal/io/json.hpp"
#include "train/boxes.hpp"
#include "train/checkpoint_save.hpp"

namespace shoal::train {
namespace {

constexpr std::array kTypes = {io::H5Type::f32, io::H5Type::bf16, io::H5Type::f16, io::H5Type::f64,
                               io::H5Type::i32, io::H5Type::i64,  io::H5Type::u8,  io::H5Type::u16,
                               io::H5Type::u32, io::H5Type::u64};

io::H5Type type_named(const std::string& text) {
  for (const io::H5Type type : kTypes) {
    if (io::name(type) == text) return type;
  }
  fail("checkpoint", "no HDF5 element type is named " + text);
}

/// [path, type, [global shape], [[start, stride, count, block], ...], first row, rows]
io::Json to_json(const CheckpointDataset& d) {
  io::Json shape = io::Json::array(), slice = io::Json::array();
  for (int i = 0; i < d.global.rank(); ++i) shape.push_back(d.global[i]);
  for (const nn::SliceDim& dim : d.slice) {
    slice.push_back({dim.start, dim.stride, dim.count, dim.block});
  }
  return {d.path, io::name(d.type), shape, slice, d.rows.first, d.rows.count};
}

CheckpointDataset dataset_from(const io::Json& json) {
  CheckpointDataset d{.path = json[0], .type = type_named(json[1]), .write = {}};
  for (const io::Json& size : json[2]) d.global.push_back(size);
  for (const io::Json& dim : json[3]) {
    d.slice.push_back({.start = dim[0], .stride = dim[1], .count = dim[2], .block = dim[3]});
  }
  d.rows = {.first = json[4], .count = json[5]};
  return d;
}

/// A tensor of the index, from all writers.
struct Entry {
  io::H5Type type = io::H5Type::f32;
  Shape global;
  std::vector<io::VirtualPiece> pieces;
  std::int64_t elements = 0;
};

void add_pieces(Entry& entry, const CheckpointDataset& d, const std::string& file) {
  expect(entry.type == d.type && entry.global == d.global,
         d.path + ": writers disagree on its type or shape");
  const Shape stored = stored_shape(nn::local_shape(d.slice), d.rows);
  for (StoredBox& box : stored_boxes(d.slice, d.rows)) {
    entry.elements += box.global.elements();
    entry.pieces.push_back({.file = file,
                            .dataset = d.path,
                            .source_shape = stored,
                            .from = std::move(box.stored),
                            .to = std::move(box.global)});
  }
}

}  // namespace

std::string describe_datasets(const std::vector<CheckpointDataset>& datasets) {
  io::Json all = io::Json::array();
  for (const CheckpointDataset& d : datasets) {
    if (d.rows.count > 0) all.push_back(to_json(d));
  }
  return all.dump();
}

void write_index(const std::filesystem::path& folder, std::int64_t step,
                 const std::vector<std::string>& described) {
  std::map<std::string, Entry> entries;
  for (std::size_t rank = 0; rank < described.size(); ++rank) {
    for (const io::Json& json : io::Json::parse(described[rank])) {
      const CheckpointDataset d = dataset_from(json);
      Entry& entry = entries.try_emplace(d.path, Entry{d.type, d.global, {}, 0}).first->second;
      add_pieces(entry, d, rank_file_name(static_cast<int>(rank)));
    }
  }
  io::H5File file = io::H5File::create(folder / kIndexFile);
  for (const auto& [path, entry] : entries) {
    expect(entry.elements == entry.global.elements(),
           path + ": the writers do not cover each element once");
    file.write_virtual({.path = path, .type = entry.type, .shape = entry.global}, entry.pieces);
  }
  file.set_attribute("/", "format", std::string{"shoal checkpoint"});
  file.set_attribute("/", "step", step);
  file.commit();
}

}  // namespace shoal::train
