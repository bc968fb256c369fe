#include "train/checkpoint_save.hpp"

#include <omp.h>

#include <algorithm>
#include <optional>
#include <system_error>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/base/thread_pool.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/hash.hpp"
#include "train/agree.hpp"
#include "train/boxes.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;
constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr int kCompressThreads = 8;

/// The share of the host's cores that this rank computes with.
int compress_threads() {
  return std::clamp(omp_get_max_threads(), 1, kCompressThreads);
}

io::Storage storage_for(int level) {
  return {.compression = level == 0 ? io::Compression::none : io::Compression::deflate,
          .level = std::max(1, level)};
}

void write_rank_file(const SaveRequest& request, const fs::path& path) {
  ThreadPool pool{compress_threads()};
  io::H5File file = io::H5File::create(path);
  for (const CheckpointDataset& d : request.datasets) {
    if (d.rows.count == 0) continue;
    io::H5Stream stream = file.stream({.path = d.path,
                                       .type = d.type,
                                       .shape = stored_shape(nn::local_shape(d.slice), d.rows),
                                       .storage = storage_for(request.deflate_level)},
                                      &pool);
    d.write(stream);
    stream.finish();
  }
  file.commit();
}

FileEntry describe_file(const fs::path& path) {
  return {.name = path.filename().string(),
          .bytes = static_cast<std::int64_t>(fs::file_size(path)),
          .hash = io::hash_file(path)};
}

/// Entries of all writers' files, in rank order; on the first rank.
std::vector<FileEntry> gather_entries(const Communicator& world, const FileEntry& mine) {
  const auto sizes = world.all_gather_value(mine.bytes);
  const auto hashes = world.gather_strings(mine.hash, 0);
  std::vector<FileEntry> files;
  for (std::size_t r = 0; r < hashes.size(); ++r) {
    files.push_back(
        {.name = rank_file_name(static_cast<int>(r)), .bytes = sizes[r], .hash = hashes[r]});
  }
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
          .rows = all_rows(shape),
          .write = [data = std::move(bytes)](io::H5Stream& stream) { stream.append(data); }};
}

std::string rank_file_name(int rank) {
  std::string digits = std::to_string(rank);
  if (digits.size() < 5) digits.insert(0, 5 - digits.size(), '0');
  return "rank-" + digits + ".h5";
}

void save_folder(const SaveRequest& request, const Communicator& world) {
  std::optional<io::FolderCommit> folder;  // of the first rank
  (void)on_root(world, [&] {
    fs::create_directories(request.checkpoint.parent_path());
    folder.emplace(request.checkpoint);
    return std::string{};
  });
  const fs::path temporary = io::temporary_path(request.checkpoint);
  FileEntry mine;
  on_every_rank(world, [&] {
    const fs::path path = temporary / rank_file_name(world.rank());
    write_rank_file(request, path);
    mine = describe_file(path);
  });
  std::vector<FileEntry> files = gather_entries(world, mine);
  const auto described = world.gather_strings(describe_datasets(request.datasets), 0);
  (void)on_root(world, [&] {
    write_index(temporary, request.manifest.step, described);
    files.insert(files.begin(), describe_file(temporary / kIndexFile));
    if (!request.tokenizer_json.empty()) {
      io::write_file_atomically(temporary / kTokenizerFile, request.tokenizer_json);
      files.push_back(describe_file(temporary / kTokenizerFile));
    }
    Manifest manifest = request.manifest;
    manifest.files = std::move(files);
    io::write_file_atomically(temporary / "manifest.json", dump_manifest(manifest));
    folder->commit();
    return std::string{};
  });
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
