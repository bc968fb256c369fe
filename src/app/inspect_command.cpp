#include <filesystem>

#include "app/commands.hpp"
#include "app/inspect.hpp"
#include "shoal/base/log.hpp"
#include "shoal/data/describe.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/json.hpp"

namespace shoal::app {
namespace {

namespace fs = std::filesystem;

std::string describe_json(const fs::path& path) {
  const io::Json json = io::read_json_file(path);
  if (json.is_object() && json.contains("model") && json.at("model").is_object()) {
    return describe_tokenizer(path);
  }
  return path.string() + ": JSON\n" + io::canonical_dump(json);
}

std::string describe_path(const fs::path& path) {
  require(fs::exists(path), path.string() + ": no such file or folder");
  if (data::is_token_data(path)) return data::describe(path);
  if (fs::is_directory(path)) {
    if (fs::exists(path / "config.json")) return describe_huggingface(path);
    if (auto text = describe_prepared(path); !text.empty()) return text;
    return describe_run(path);
  }
  if (path.extension() == ".json") return describe_json(path);
  if (path.extension() == ".journal") return describe_metrics(path);
  if (path.extension() == ".h5") return describe_h5(path);
  throw InputError{path.string() +
                   ": not a kind of file that Shoal writes (a dataset, run or checkpoint folder, "
                   "a shard, tokenizer.json, metrics.h5, metrics.journal)"};
}

}  // namespace

ExitCode inspect_command(const Invocation& call) {
  log::info(describe_path(only_argument(call, "a file or folder that Shoal wrote")));
  return ExitCode::finished;
}

}  // namespace shoal::app
