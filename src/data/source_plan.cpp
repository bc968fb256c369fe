#include <algorithm>
#include <filesystem>
#include <sstream>

#include "data/source_file.hpp"
#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"
#include "shoal/data/source.hpp"

namespace shoal::data {
namespace {

namespace fs = std::filesystem;
using Counter = SourceReport::Counter;

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kPackedRatio = 4;  // text packs to about a quarter

bool is_jsonl(fs::path path) {
  if (path.extension() == ".gz" || path.extension() == ".zst") path = path.stem();
  return path.extension() == ".jsonl" || path.extension() == ".ndjson";
}

SourcePart::Kind kind_of(const SourceConfig& config, const fs::path& path) {
  using Kind = SourcePart::Kind;
  if (config.format == "jsonl" || (config.format == "auto" && is_jsonl(path))) return Kind::jsonl;
  if (config.documents == "paragraph") return Kind::paragraphs;
  return config.documents == "separator" ? Kind::separated : Kind::whole_file;
}

/// Lists files; problems with what the user named are gathered, problems inside folders counted.
class Lister {
 public:
  explicit Lister(const SourceConfig& config) : config_{config} {}

  void add_input(const std::string& input) {
    std::error_code error;
    const fs::file_status status = fs::status(input, error);
    if (!fs::exists(status)) {
      const bool missing = error == std::errc::no_such_file_or_directory || !error;
      return problem(input, missing ? "does not exist" : error.message());
    }
    try {
      if (fs::is_directory(status)) return add_folder(input);
      if (!fs::is_regular_file(status)) return problem(input, "is neither a file nor a folder");
      add_named_file(input);
    } catch (const InputError& e) {
      problems_ += (problems_.empty() ? "" : "\n") + std::string{e.what()};
    } catch (const fs::filesystem_error& e) {
      problem(input, e.code().message());
    }
  }

  SourcePlan finish() {
    require(problems_.empty(), problems_);
    return std::move(plan_);
  }

 private:
  void problem(const std::string& input, const std::string& text) {
    problems_ += (problems_.empty() ? "" : "\n") + input + ": " + text;
  }

  void add_named_file(const std::string& input) {
    const auto size = static_cast<std::int64_t>(fs::file_size(input));
    if (size == 0) return problem(input, "is empty");
    if (is_binary_file(input)) return problem(input, "is binary, not text");
    add_file(input, size, false);
  }

  void add_folder(const std::string& input) {
    std::vector<std::string> files;
    const auto options = fs::directory_options::skip_permission_denied;
    for (const auto& entry : fs::recursive_directory_iterator{input, options}) {
      std::error_code error;
      if (entry.is_symlink(error)) {
        ++plan_.report[Counter::links_skipped];
      } else if (entry.is_regular_file(error)) {
        files.push_back(entry.path().string());
      }
    }
    std::sort(files.begin(), files.end());
    if (files.empty()) return problem(input, "has no files");
    for (const std::string& file : files) add_found_file(file);
  }

  void add_found_file(const std::string& file) {
    std::error_code error;
    const auto size = static_cast<std::int64_t>(fs::file_size(file, error));
    if (!error && size == 0) {
      ++plan_.report[Counter::files_empty];
      return;
    }
    try {
      require(!error, file + ": " + error.message());
      add_file(file, size, true);
    } catch (const InputError&) {
      ++plan_.report[Counter::files_unreadable];
    }
  }

  void add_file(const std::string& file, std::int64_t size, bool from_folder) {
    SourcePart part{.path = file, .end = size, .kind = kind_of(config_, file)};
    part.packed = is_packed(file);
    part.from_folder = from_folder;
    plan_.bytes_on_disk += size;
    plan_.text_bytes += part.packed ? kPackedRatio * size : size;
    plan_.parts.push_back(std::move(part));
  }

  const SourceConfig& config_;
  SourcePlan plan_;
  std::string problems_;
};

/// Cuts files that can be entered in the middle into ranges of at most `shard_bytes`.
void split_large_files(SourcePlan& plan, std::int64_t shard_bytes) {
  std::vector<SourcePart> parts;
  for (const SourcePart& part : plan.parts) {
    const bool whole = part.kind == SourcePart::Kind::whole_file || part.packed;
    if (whole || part.end <= shard_bytes) {
      parts.push_back(part);
      continue;
    }
    // Ranges are judged apart from each other, so a binary file must be found out before.
    if (part.from_folder && is_binary_file(part.path)) {
      ++plan.report[Counter::files_binary];
      continue;
    }
    const std::int64_t ranges = ceil_div(part.end, shard_bytes);
    for (std::int64_t i = 0; i < ranges; ++i) {
      SourcePart range = part;
      range.begin = part.end * i / ranges;
      range.end = part.end * (i + 1) / ranges;
      parts.push_back(std::move(range));
    }
  }
  plan.parts = std::move(parts);
}

void deal_to_shards(SourcePlan& plan, std::int64_t shard_bytes) {
  std::int64_t weight = shard_bytes;  // so that the first part opens the first shard
  for (std::size_t i = 0; i < plan.parts.size(); ++i) {
    const SourcePart& part = plan.parts[i];
    const std::int64_t bytes = (part.end - part.begin) * (part.packed ? kPackedRatio : 1);
    if (weight >= shard_bytes || weight + bytes / 2 > shard_bytes) {
      plan.shard_begin.push_back(static_cast<std::int64_t>(i));
      weight = 0;
    }
    weight += bytes;
  }
  plan.shard_begin.push_back(static_cast<std::int64_t>(plan.parts.size()));
}

}  // namespace

SourcePlan plan_source(const SourceConfig& config, std::int64_t shard_bytes) {
  Lister lister{config};
  for (const std::string& input : config.inputs) lister.add_input(input);
  SourcePlan plan = lister.finish();
  if (shard_bytes == 0) shard_bytes = std::clamp(plan.text_bytes / 32, 4 * kMiB, 256 * kMiB);
  split_large_files(plan, shard_bytes);
  deal_to_shards(plan, shard_bytes);
  return plan;
}

std::string to_text(const SourcePlan& plan) {
  std::ostringstream out;
  out << plan.parts.size() << ' ' << plan.shard_begin.size() << ' ' << plan.bytes_on_disk << ' '
      << plan.text_bytes;
  for (const std::int64_t count : plan.report.counts) out << ' ' << count;
  for (const std::int64_t begin : plan.shard_begin) out << ' ' << begin;
  for (const SourcePart& p : plan.parts) {  // a path may hold any byte: its length goes first
    out << ' ' << p.begin << ' ' << p.end << ' ' << static_cast<std::int64_t>(p.kind) << ' '
        << p.packed << ' ' << p.from_folder << ' ' << p.path.size() << ' ' << p.path;
  }
  return out.str();
}

SourcePlan plan_from_text(const std::string& text) {
  std::istringstream in{text};
  SourcePlan plan;
  std::size_t num_parts = 0;
  std::size_t num_shards = 0;
  in >> num_parts >> num_shards >> plan.bytes_on_disk >> plan.text_bytes;
  for (std::int64_t& count : plan.report.counts) in >> count;
  plan.shard_begin.resize(num_shards);
  for (std::int64_t& begin : plan.shard_begin) in >> begin;
  plan.parts.resize(num_parts);
  for (SourcePart& p : plan.parts) {
    std::int64_t kind = 0;
    std::size_t length = 0;
    in >> p.begin >> p.end >> kind >> p.packed >> p.from_folder >> length;
    in.ignore(1);
    p.kind = static_cast<SourcePart::Kind>(kind);
    p.path.resize(length);
    in.read(p.path.data(), static_cast<std::streamsize>(length));
  }
  expect(in.good() || num_parts == 0, "a source plan came over damaged");
  return plan;
}

}  // namespace shoal::data
