#include <algorithm>
#include <string_view>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/io/hash.hpp"
#include "shoal/train/checkpoint.hpp"
#include "shoal/train/model_json.hpp"
#include "train/checkpoint_save.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "step-";

fs::path manifest_path(const fs::path& checkpoint) {
  return checkpoint / "manifest.json";
}

/// File names in a manifest are plain: nothing outside the folder can be named.
void require_plain(const std::string& name, const std::string& what) {
  const bool plain =
      !name.empty() && name.find('/') == std::string::npos && name != "." && name != "..";
  require(plain, what + ": \"" + name + "\" is not a plain file name");
}

std::vector<FileEntry> parse_files(const io::Json& json, const std::string& what) {
  const auto list = io::get_field<io::Json>(json, "files", what);
  require(list.is_array(), what + ": key \"files\" must be an array");
  std::vector<FileEntry> files;
  for (const io::Json& entry : list) {
    files.push_back({.name = io::get_field<std::string>(entry, "name", what),
                     .bytes = io::get_field<std::int64_t>(entry, "bytes", what),
                     .hash = io::get_field<std::string>(entry, "xxh3", what)});
    require_plain(files.back().name, what);
  }
  return files;
}

void check_sizes(const fs::path& checkpoint, const Manifest& manifest) {
  for (const FileEntry& file : manifest.files) {
    const fs::path path = checkpoint / file.name;
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    require(!error, path.string() + ": named in the manifest but missing");
    require(static_cast<std::int64_t>(bytes) == file.bytes,
            path.string() + ": " + std::to_string(bytes) + " bytes, the manifest says " +
                std::to_string(file.bytes));
  }
}

bool is_step_folder(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  return entry.is_directory() && !entry.is_symlink() && name.starts_with(kPrefix) &&
         name.size() > kPrefix.size() &&
         name.find_first_not_of("0123456789", kPrefix.size()) == std::string::npos;
}

}  // namespace

std::string dump_manifest(const Manifest& m) {
  io::Json files = io::Json::array();
  for (const FileEntry& f : m.files) {
    files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"xxh3", f.hash}});
  }
  return io::canonical_dump({{"format", "shoal checkpoint"},
                             {"version", kCheckpointVersion},
                             {"step", m.step},
                             {"code_version", m.code_version},
                             {"layout", m.layout},
                             {"precision", m.precision},
                             {"optimizer", m.optimizer},
                             {"model", to_json(m.model)},
                             {"tokenizer_hash", m.tokenizer_hash},
                             {"state", m.state},
                             {"effective_config", m.effective_config},
                             {"files", files}});
}

Manifest read_manifest(const fs::path& checkpoint) {
  const fs::path path = manifest_path(checkpoint);
  const std::string what = path.string();
  require(fs::exists(path), checkpoint.string() + ": not a checkpoint (no manifest.json)");
  const io::Json json = io::read_json_file(path);
  require(io::get_field_or<std::string>(json, "format", "", what) == "shoal checkpoint",
          what + ": not a checkpoint's manifest");
  const auto version = io::get_field<std::int64_t>(json, "version", what);
  require(version == kCheckpointVersion, what + ": format version " + std::to_string(version) +
                                             ", this program reads " +
                                             std::to_string(kCheckpointVersion));
  Manifest m{.step = io::get_field<std::int64_t>(json, "step", what),
             .code_version = io::get_field<std::string>(json, "code_version", what),
             .layout = io::get_field<std::string>(json, "layout", what),
             .precision = io::get_field<std::string>(json, "precision", what),
             .optimizer = io::get_field<std::string>(json, "optimizer", what),
             .model = model_config_from_json(io::get_field<io::Json>(json, "model", what), what),
             .tokenizer_hash = io::get_field<std::string>(json, "tokenizer_hash", what),
             .state = io::get_field<io::Json>(json, "state", what),
             .effective_config = io::get_field<std::string>(json, "effective_config", what),
             .files = parse_files(json, what)};
  check_sizes(checkpoint, m);
  return m;
}

void verify_hashes(const fs::path& checkpoint, const Manifest& manifest) {
  for (const FileEntry& file : manifest.files) {
    const fs::path path = checkpoint / file.name;
    require(io::hash_file(path) == file.hash,
            path.string() + ": content does not match its hash in the manifest");
  }
}

std::vector<fs::path> list_checkpoints(const fs::path& run_dir) {
  std::vector<fs::path> found;
  if (!fs::is_directory(run_dir)) return found;
  for (const auto& entry : fs::directory_iterator{run_dir}) {
    if (is_step_folder(entry) && fs::exists(manifest_path(entry.path()))) {
      found.push_back(entry.path());
    }
  }
  const auto longer_first = [](const fs::path& a, const fs::path& b) {
    const std::string x = a.filename().string();
    const std::string y = b.filename().string();
    return x.size() != y.size() ? x.size() > y.size() : x > y;
  };
  std::sort(found.begin(), found.end(), longer_first);
  return found;
}

fs::path find_checkpoint(const fs::path& path) {
  if (fs::exists(manifest_path(path))) return path;
  require(fs::is_directory(path), path.string() + ": no such checkpoint or run folder");
  const auto found = list_checkpoints(path);
  require(!found.empty(), path.string() + ": holds no complete checkpoint");
  return found.front();
}

}  // namespace shoal::train
