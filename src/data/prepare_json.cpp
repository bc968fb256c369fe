#include "data/prepare_json.hpp"

namespace shoal::data {

io::Json options_json(const PrepareConfig& config) {
  const text::CleanConfig& c = config.clean;
  const SourceConfig& s = config.source;
  return {{"normalization", c.normalization},
          {"strip_controls", c.strip_controls},
          {"min_words", c.min_words},
          {"max_words", c.max_words},
          {"max_replacement_ratio", c.max_replacement_ratio},
          {"max_control_ratio", c.max_control_ratio},
          {"max_private_use_ratio", c.max_private_use_ratio},
          {"max_badness", c.max_badness},
          {"deduplicate", c.deduplicate},
          {"format", s.format},
          {"documents", s.documents},
          {"max_document_mb", s.max_document_mb},
          {"val_fraction", config.val_fraction},
          {"val_split", config.val_split}};
}

io::Json counts_json(const PrepareReport& report) {
  io::Json source = io::Json::object();
  for (std::int64_t i = 0; i < SourceReport::num_counters; ++i) {
    const auto counter = static_cast<SourceReport::Counter>(i);
    source[std::string{SourceReport::name(counter)}] = report.source[counter];
  }
  io::Json clean = io::Json::object();
  for (std::int64_t i = 0; i < text::CleanReport::num_counters; ++i) {
    const auto counter = static_cast<text::CleanReport::Counter>(i);
    clean[std::string{text::CleanReport::name(counter)}] = report.clean[counter];
  }
  return {{"source", source},
          {"clean", clean},
          {"train_documents", report.train_documents},
          {"train_tokens", report.train_tokens},
          {"val_documents", report.val_documents},
          {"val_tokens", report.val_tokens},
          {"shards", report.shards},
          {"vocab_size", report.vocab_size},
          {"tokenizer_hash", report.tokenizer_hash}};
}

}  // namespace shoal::data
