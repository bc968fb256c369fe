#include "data/prepare_survey.hpp"

#include <algorithm>
#include <cmath>

#include "shoal/base/log.hpp"

namespace shoal::data {
namespace {

/// Uniform in [0, 1) from 64 bits of a key.
double unit(std::uint64_t bits) {
  return std::ldexp(static_cast<double>(bits >> 11), -53);
}

bool goes_to_validation(const PrepareConfig& config, const text::Hash128& key) {
  return config.val_split == "hash" && unit(key.low) < config.val_fraction;
}

class Surveyor {
 public:
  Surveyor(const PrepareRun& run, Survey& survey)
      : run_{run}, survey_{survey}, cleaner_{run.config.clean}, progress_{run, "pass 1, cleaning"} {
    const auto text = static_cast<double>(std::max<std::int64_t>(run.plan.text_bytes, 1));
    const auto sample = static_cast<double>(run.config.train_sample_mb << 20);
    sample_share_ = run.config.tokenizer == "train" ? std::min(1.0, sample / text) : 0.0;
  }

  void shard(std::int64_t s) {
    std::int64_t ordinal = 0;
    for (std::int64_t p = run_.plan.shard_begin[s]; p < run_.plan.shard_begin[s + 1]; ++p) {
      read_documents(run_.config.source, run_.plan.parts[p], survey_.source,
                     [&](std::string_view raw) { document(raw, document_index(s, ordinal++)); });
    }
  }
  void finish() const {
    progress_.finish();
    for (const std::string& problem : survey_.source.problems) {
      log::warning(problem + " (the rest of the file is left out)");
    }
  }

 private:
  void document(std::string_view raw, std::uint64_t index) {
    progress_.add(static_cast<std::int64_t>(raw.size()));
    if (!cleaner_.clean(raw, text_, survey_.clean)) return;
    const text::Hash128 key = text::dedup_key(text_);
    survey_.keys.push_back({key, index});
    // Taken by key, so that the sample is the same however documents are dealt out.
    if (unit(key.high) >= sample_share_ || goes_to_validation(run_.config, key)) return;
    const bool tail = run_.config.val_split == "tail";
    const double held_out = tail ? run_.config.val_fraction : 0.0;
    survey_.words.add_text(
        std::string_view{text_}.substr(0, static_cast<std::size_t>(tail_cut(text_, held_out))));
  }

  const PrepareRun& run_;
  Survey& survey_;
  text::Cleaner cleaner_;
  Progress progress_;
  std::string text_;
  double sample_share_ = 0.0;
};

}  // namespace

Survey survey_documents(const PrepareRun& run) {
  const auto rule = text::parse_split_rule(run.config.training.split);
  Survey survey{.source = {}, .clean = {}, .keys = {}, .words = text::WordCounts{rule}};
  together(run.comm, [&] {
    Surveyor surveyor{run, survey};
    run.for_my_shards([&](std::int64_t s) { surveyor.shard(s); });
    surveyor.finish();
  });
  return survey;
}

std::vector<Survivor> select_survivors(const PrepareConfig& config,
                                       std::span<const DocumentKey> keys,
                                       std::span<const std::uint64_t> duplicates) {
  std::vector<Survivor> survivors;
  survivors.reserve(keys.size() - duplicates.size());
  std::size_t next = 0;
  for (const DocumentKey& k : keys) {
    if (next < duplicates.size() && duplicates[next] == k.index) {
      ++next;
    } else {
      survivors.push_back({k.index, goes_to_validation(config, k.key) ? 1U : 0U});
    }
  }
  return survivors;
}

}  // namespace shoal::data
