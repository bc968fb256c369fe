#include "train/checkpoint_save.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <system_error>
#include <thread>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/base/thread_pool.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/hash.hpp"
#include "train/parameter_io.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;
constexpr const char* kRankFile = "rank-00000.h5";
constexpr const char* kIndexFile = "index.h5";
constexpr int kCompressThreads = 8;
constexpr std::int64_t kWholeBox = std::int64_t{1} << 60;

int compress_threads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kCompressThreads);
}

io::Storage storage_for(int level) {
  return {.compression = level == 0 ? io::Compression::none : io::Compression::deflate,
          .level = std::max(1, level)};
}

void write_rank_file(const SaveRequest& request, const fs::path& folder) {
  ThreadPool pool{compress_threads()};
  io::H5File file = io::H5File::create(folder / kRankFile);
  for (const CheckpointDataset& d : request.datasets) {
    io::H5Stream stream = file.stream({.path = d.path,
                                       .type = d.type,
                                       .shape = nn::local_shape(d.slice),
                                       .storage = storage_for(request.deflate_level)},
                                      &pool);
    d.write(stream);
    stream.finish();
  }
  file.commit();
}

/// One virtual dataset of global shape for each tensor, over the writers' files.
void write_index(const SaveRequest& request, const fs::path& folder) {
  io::H5File file = io::H5File::create(folder / kIndexFile);
  for (const CheckpointDataset& d : request.datasets) {
    std::vector<io::VirtualPiece> pieces;
    for (BoxPair& box : boxes(d.slice, kWholeBox)) {
      pieces.push_back({.file = kRankFile,
                        .dataset = d.path,
                        .source_shape = nn::local_shape(d.slice),
                        .from = std::move(box.local),
                        .to = std::move(box.global)});
    }
    file.write_virtual({.path = d.path, .type = d.type, .shape = d.global}, pieces);
  }
  file.set_attribute("/", "format", std::string{"shoal checkpoint"});
  file.set_attribute("/", "step", request.manifest.step);
  file.commit();
}

std::vector<FileEntry> describe_files(const fs::path& folder) {
  std::vector<FileEntry> files;
  for (const auto& entry : fs::directory_iterator{folder}) {
    files.push_back({.name = entry.path().filename().string(),
                     .bytes = static_cast<std::int64_t>(entry.file_size()),
                     .hash = io::hash_file(entry.path())});
  }
  std::sort(files.begin(), files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
  return files;
}

/// Without its manifest a checkpoint does not exist: the removal can be cut short at any point.
void remove_checkpoint(const fs::path& checkpoint) {
  std::error_code error;
  fs::remove(checkpoint / "manifest.json", error);
  fs::remove_all(checkpoint, error);
  if (error) log::warning("cannot remove " + checkpoint.string() + ": " + error.message());
}

void point_latest(const fs::path& checkpoint) {
  const fs::path run_dir = checkpoint.parent_path();
  const fs::path fresh = run_dir / "latest.tmp";
  fs::remove(fresh);
  fs::create_symlink(checkpoint.filename(), fresh);
  io::rename_path(fresh, run_dir / "latest");
  io::sync_directory(run_dir);
}

}  // namespace

std::string step_folder_name(std::int64_t step) {
  std::string digits = std::to_string(step);
  if (digits.size() < 8) digits.insert(0, 8 - digits.size(), '0');
  return "step-" + digits;
}

CheckpointDataset whole_dataset(std::string path, io::H5Type type, std::vector<std::byte> bytes) {
  const Shape shape{static_cast<std::int64_t>(bytes.size()) / io::size_of(type)};
  return {.path = std::move(path),
          .type = type,
          .global = shape,
          .slice = nn::whole(shape),
          .write = [data = std::move(bytes)](io::H5Stream& stream) { stream.append(data); }};
}

void save_folder(const SaveRequest& request) {
  fs::create_directories(request.checkpoint.parent_path());
  io::FolderCommit folder{request.checkpoint};
  write_rank_file(request, folder.temporary());
  write_index(request, folder.temporary());
  if (!request.tokenizer_json.empty()) {
    io::write_file_atomically(folder.temporary() / "tokenizer.json", request.tokenizer_json);
  }
  Manifest manifest = request.manifest;
  manifest.files = describe_files(folder.temporary());
  io::write_file_atomically(folder.temporary() / "manifest.json", dump_manifest(manifest));
  folder.commit();
}

void publish(const fs::path& checkpoint, std::int64_t keep_last) {
  point_latest(checkpoint);
  if (keep_last == 0) return;
  const auto all = list_checkpoints(checkpoint.parent_path());
  for (std::size_t i = static_cast<std::size_t>(keep_last); i < all.size(); ++i) {
    if (all[i].filename() != checkpoint.filename()) remove_checkpoint(all[i]);
  }
}

void remove_temporaries(const fs::path& run_dir) {
  if (!fs::is_directory(run_dir)) return;
  for (const auto& entry : fs::directory_iterator{run_dir}) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-") || !name.ends_with(".tmp")) continue;
    std::error_code error;
    fs::remove_all(entry.path(), error);
  }
}

void check_disk(const fs::path& run_dir, std::int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(run_dir, error);
  if (error || static_cast<std::int64_t>(space.available) >= bytes) return;
  constexpr std::int64_t kMib = std::int64_t{1} << 20;
  log::warning(run_dir.string() + ": " +
               std::to_string(static_cast<std::int64_t>(space.available) / kMib) +
               " MiB free, a checkpoint may take " + std::to_string(bytes / kMib) + " MiB");
}

}  // namespace shoal::train
