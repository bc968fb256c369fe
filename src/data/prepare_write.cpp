#include "data/prepare_write.hpp"

#include <algorithm>
#include <optional>

#include "data/prepare_val_parts.hpp"
#include "shoal/base/error.hpp"

namespace shoal::data {
namespace {

/// Which shards hold training documents, and the number each of those gets in the file names.
class ShardNumbers {
 public:
  ShardNumbers(const PrepareRun& run, std::span<const Survivor> survivors) {
    std::vector<std::int64_t> used(static_cast<std::size_t>(run.plan.num_shards()), 0);
    for (const Survivor& s : survivors) {
      if (s.validation == 0) used[s.index >> 40] = 1;
    }
    run.comm.all_reduce(used, comm::ReduceOp::max);
    for (const std::int64_t u : used) number_.push_back(u != 0 ? count_++ : -1);
  }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t of(std::int64_t shard) const { return number_[shard]; }

 private:
  std::int64_t count_ = 0;
  std::vector<std::int64_t> number_;
};

class Writer {
 public:
  Writer(const PrepareRun& run, const DatasetInfo& info, const text::Tokenizer& tokenizer,
         std::span<const Survivor> survivors)
      : run_{run},
        info_{info},
        tokenizer_{tokenizer},
        survivors_{survivors},
        cleaner_{run.config.clean},
        progress_{run, "pass 2, tokenising"} {}

  void shard(std::int64_t s, const ShardNumbers& numbers) {
    if (numbers.of(s) >= 0) {
      const std::string name = shard_file_name(info_.name, numbers.of(s), numbers.count());
      train_.emplace(run_.folder + "/train/" + name, info_);
    }
    ValPart val{val_part_path(run_.folder + "/val", s)};
    std::int64_t ordinal = 0;
    SourceReport again;  // pass 1 has counted
    for (std::int64_t p = run_.plan.shard_begin[s]; p < run_.plan.shard_begin[s + 1]; ++p) {
      read_documents(run_.config.source, run_.plan.parts[p], again, [&](std::string_view raw) {
        document(raw, document_index(s, ordinal++), val);
      });
    }
    const bool all_seen =
        next_ == survivors_.size() || static_cast<std::int64_t>(survivors_[next_].index >> 40) > s;
    require(all_seen, "the input changed while it was read: documents are missing in pass 2");
    val.flush();
    if (train_) summaries_.push_back(train_->finish());
    train_.reset();
  }

  void finish(WrittenShards& result) {
    progress_.finish();
    result.clean = report_;
    result.train = std::move(summaries_);
  }

 private:
  void document(std::string_view raw, std::uint64_t index, ValPart& val) {
    progress_.add(static_cast<std::int64_t>(raw.size()));
    if (next_ == survivors_.size() || survivors_[next_].index != index) return;
    const bool validation = survivors_[next_++].validation != 0;
    require(cleaner_.clean(raw, text_, report_),
            "the input changed while it was read: a document differs in pass 2");
    const PrepareConfig& config = run_.config;
    const std::string_view text{text_};
    if (config.val_split != "tail") return validation ? add_val(text, val) : add_train(text);
    const auto cut = static_cast<std::size_t>(tail_cut(text, config.val_fraction));
    add_train(text.substr(0, cut));
    add_val(text.substr(cut), val);
  }

  [[nodiscard]] Document encode(std::string_view text) {
    ids_.clear();
    tokenizer_.encode_ordinary(text, ids_);
    ids_.push_back(tokenizer_.eos_id());
    return {.tokens = ids_, .text_bytes = static_cast<std::int64_t>(text.size())};
  }
  void add_train(std::string_view text) {
    if (!text.empty()) train_->add(encode(text));
  }
  void add_val(std::string_view text, ValPart& val) {
    if (!text.empty()) val.add(encode(text));
  }

  const PrepareRun& run_;
  const DatasetInfo& info_;
  const text::Tokenizer& tokenizer_;
  std::span<const Survivor> survivors_;
  std::size_t next_ = 0;  ///< first survivor not written yet
  text::Cleaner cleaner_;
  Progress progress_;
  text::CleanReport report_;
  std::string text_;
  std::vector<std::uint32_t> ids_;
  std::optional<ShardWriter> train_;
  std::vector<ShardSummary> summaries_;
};

/// Summaries of all ranks on rank 0, in the order of their file names, which is that of the shards.
std::vector<ShardSummary> gather(const Communicator& comm, const std::vector<ShardSummary>& mine) {
  io::Json list = io::Json::array();
  for (const ShardSummary& s : mine) list.push_back(to_json(s));
  std::vector<ShardSummary> all;
  for (const std::string& part : comm.gather_strings(list.dump(), 0)) {
    for (const io::Json& s : io::parse_json(part, "shard summaries")) {
      all.push_back(shard_summary_from_json(s, "shard summary"));
    }
  }
  std::sort(all.begin(), all.end(), [](const ShardSummary& a, const ShardSummary& b) {
    return a.file.size() != b.file.size() ? a.file.size() < b.file.size() : a.file < b.file;
  });
  return all;
}

}  // namespace

WrittenShards write_shards(const PrepareRun& run, const DatasetInfo& info,
                           const text::Tokenizer& tokenizer, std::span<const Survivor> survivors) {
  const ShardNumbers numbers{run, survivors};
  WrittenShards result;
  together(run.comm, [&] {
    Writer writer{run, info, tokenizer, survivors};
    run.for_my_shards([&](std::int64_t s) { writer.shard(s, numbers); });
    writer.finish(result);
  });
  result.train = gather(run.comm, result.train);
  constexpr std::int64_t kValShardTokens = std::int64_t{1} << 26;
  together(run.comm, [&] {
    if (!run.comm.is_root()) return;
    DatasetWriter writer{run.folder + "/val", info, kValShardTokens};
    const bool any = merge_val_parts(run.folder + "/val", run.plan.num_shards(), writer);
    if (any) result.val = writer.finish();
  });
  return result;
}

}  // namespace shoal::data
