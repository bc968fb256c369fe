#include "shoal/data/prepare.hpp"

#include <filesystem>
#include <memory>
#include <optional>

#include "data/prepare_json.hpp"
#include "data/prepare_survey.hpp"
#include "data/prepare_write.hpp"
#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/text/utf8.hpp"

namespace shoal::data {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kMiB = std::int64_t{1} << 20;

/// A folder is replaced only when it is empty or `prepare` made it, and the user said so.
void check_output(const PrepareConfig& config) {
  const fs::path output{config.output};
  for (const std::string& input : config.source.inputs) {
    const fs::path below =
        fs::weakly_canonical(output).lexically_relative(fs::weakly_canonical(input));
    require(
        below.empty() || *below.begin() == ".." || below == ".",
        config.output + ": lies inside the input " + input + " and would be read by a next run");
  }
  if (!fs::exists(output)) return;
  require(fs::is_directory(output), config.output + ": exists and is not a folder");
  if (fs::is_empty(output)) return;
  require(fs::exists(output / "report.json") && fs::exists(output / "tokenizer.json"),
          config.output + ": is not empty and not an output of prepare");
  require(config.overwrite, config.output + ": holds a dataset; overwrite = true replaces it");
}

SourcePlan share_plan(const PrepareConfig& config, const Communicator& comm) {
  std::string text;
  together(comm, [&] {
    if (!comm.is_root()) return;
    check_output(config);
    text = to_text(plan_source(config.source, config.shard_mb * kMiB));
  });
  return plan_from_text(comm.broadcast_string(text, 0));
}

/// Pass 1 and what follows from it on all ranks.
struct Findings {
  Survey survey;
  std::vector<Survivor> survivors;
  std::int64_t duplicates = 0;
};

Findings find_documents(const PrepareRun& run) {
  Findings found{.survey = survey_documents(run), .survivors = {}};
  std::vector<std::uint64_t> duplicates;
  if (run.config.clean.deduplicate) duplicates = find_duplicates(run.comm, found.survey.keys);
  found.survivors = select_survivors(run.config, found.survey.keys, duplicates);
  found.survey.keys = {};
  found.duplicates = static_cast<std::int64_t>(duplicates.size());
  const auto left = static_cast<std::int64_t>(found.survivors.size());
  if (run.comm.all_reduce_value(left, comm::ReduceOp::sum) > 0) return found;
  run.comm.all_reduce(found.survey.clean.counts, comm::ReduceOp::sum);
  run.comm.all_reduce(found.survey.source.counts, comm::ReduceOp::sum);
  PrepareReport report{.source = found.survey.source, .clean = found.survey.clean};
  report.source += run.plan.report;
  throw InputError{"no document is left to write; the counts say why:\n" + report.describe()};
}

void add_up(const PrepareRun& run, const Findings& found, const WrittenShards& written,
            PrepareReport& report) {
  using Counter = text::CleanReport::Counter;
  report.source = found.survey.source;
  report.clean = found.survey.clean;
  report.clean[Counter::dropped_duplicate] = found.duplicates;
  report.clean[Counter::documents_kept] = written.clean[Counter::documents_kept];
  report.clean[Counter::bytes_kept] = written.clean[Counter::bytes_kept];
  run.comm.all_reduce(report.source.counts, comm::ReduceOp::sum);
  run.comm.all_reduce(report.clean.counts, comm::ReduceOp::sum);
  report.source += run.plan.report;
  for (const ShardSummary& s : written.train) {
    report.train_documents += s.documents;
    report.train_tokens += s.tokens;
  }
  for (const ShardSummary& s : written.val) {
    report.val_documents += s.documents;
    report.val_tokens += s.tokens;
  }
  report.shards = std::ssize(written.train) + std::ssize(written.val);
  // Rank 0 has the summaries.
  for (std::int64_t* sum : {&report.train_documents, &report.train_tokens, &report.val_documents,
                            &report.val_tokens, &report.shards}) {
    run.comm.broadcast(std::span{sum, 1}, 0);
  }
}

DatasetInfo describe_dataset(const PrepareConfig& config, const text::Tokenizer& tokenizer) {
  std::string inputs;
  for (const std::string& input : config.source.inputs) {
    inputs += inputs.empty() ? "" : ", ";
    // JSON takes UTF-8 only; a file name may be any bytes.
    text::repair_utf8(fs::path{input}.lexically_normal().filename().string(), inputs);
  }
  return {.vocab_size = tokenizer.vocab_size(),
          .eos_id = tokenizer.eos_id(),
          .tokenizer_hash = tokenizer.hash(),
          .tokenizer_file = "tokenizer.json",
          .source = inputs,
          .cleaning = {{"options", options_json(config)}}};
}

/// Indexes, tokenizer and report: what makes folders of shards a dataset. On rank 0, last.
void complete(const PrepareRun& run, DatasetInfo info, const text::Tokenizer& tokenizer,
              const WrittenShards& written, const PrepareReport& report) {
  info.cleaning["counts"] = counts_json(report);
  const std::string json = tokenizer.to_json();
  for (const auto& [name, shards] : {std::pair{"train", &written.train}, {"val", &written.val}}) {
    const fs::path folder = fs::path{run.folder} / name;
    if (shards->empty()) {
      fs::remove_all(folder);
      continue;
    }
    io::write_file_atomically(folder / "tokenizer.json", json);
    write_dataset_index(folder, info, *shards);
  }
  io::write_file_atomically(fs::path{run.folder} / "tokenizer.json", json);
  io::Json all = counts_json(report);
  all["options"] = options_json(run.config);
  io::write_json_file(fs::path{run.folder} / "report.json", all);
}

void say(const PrepareRun& run, const PrepareReport& report) {
  if (!run.comm.is_root()) return;
  log::info("prepared " + run.config.output + "\n" + report.describe());
  if (run.config.val_fraction > 0 && report.val_documents == 0) {
    log::warning("no document fell into validation; with few documents use val_split = tail");
  }
  if (report.train_documents == 0) {
    log::warning("every document fell into validation; with few documents use val_split = tail");
  }
}

}  // namespace

PrepareReport prepare(const PrepareConfig& config, const Communicator& comm) {
  std::vector<std::string> problems;
  validate(config, problems);
  if (!problems.empty()) throw InputError{problems.front()};
  const Stopwatch watch;
  const fs::path output = fs::path{config.output}.lexically_normal();
  PrepareRun run{.config = config,
                 .comm = comm,
                 .plan = share_plan(config, comm),
                 .folder = io::temporary_path(output).string()};
  const Findings found = find_documents(run);
  const auto tokenizer = make_tokenizer(run, found.survey.words);
  DatasetInfo info = describe_dataset(config, *tokenizer);

  std::optional<io::FolderCommit> commit;
  together(comm, [&] {
    if (!comm.is_root()) return;
    commit.emplace(output);
    for (const char* name : {"train", "val"}) fs::create_directories(fs::path{run.folder} / name);
  });
  const WrittenShards written = write_shards(run, info, *tokenizer, found.survivors);
  PrepareReport report;
  report.vocab_size = tokenizer->vocab_size();
  report.tokenizer_hash = tokenizer->hash();
  add_up(run, found, written, report);
  together(comm, [&] {
    if (!comm.is_root()) return;
    complete(run, std::move(info), *tokenizer, written, report);
    commit->commit();
  });
  report.seconds = watch.seconds();
  say(run, report);
  return report;
}

}  // namespace shoal::data
