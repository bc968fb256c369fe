#include "app/keys.hpp"

namespace shoal::app {
namespace {

void add_source_keys(KeyTable& table, data::SourceConfig& c) {
  table.add("inputs", c.inputs, "files, or folders (everything below them)");
  table.add("format", c.format, "auto (.jsonl and .ndjson are jsonl) | text | jsonl");
  table.add("text_field", c.text_field, "member of a jsonl line that holds the document");
  table.add("documents", c.documents,
            "what a document of a text file is: file | paragraph | separator");
  table.add("separator", c.separator, "a line of exactly this text ends a document");
  table.add("max_document_mb", c.max_document_mb,
            "longer text files are cut at a line end, MB, 1 to 1024");
}

void add_clean_keys(KeyTable& table, text::CleanConfig& c) {
  table.section("clean", "What `shoal prepare` does to each document before it is tokenised.");
  table.add("normalization", c.normalization, "Unicode form: nfc | nfkc | none");
  table.add("strip_controls", c.strip_controls, "CR LF to LF, other control characters dropped");
  table.add("min_words", c.min_words, "drop shorter documents; 0: off (published: 10)");
  table.add("max_words", c.max_words, "drop longer documents; 0: off (published: 512)");
  table.add("max_replacement_ratio", c.max_replacement_ratio,
            "drop documents with more U+FFFD a character; 1: off");
  table.add("max_control_ratio", c.max_control_ratio,
            "drop documents with more control characters a character; 1: off");
  table.add("max_private_use_ratio", c.max_private_use_ratio,
            "drop documents with more private-use characters a character; 1: off");
  table.add("max_badness", c.max_badness,
            "drop documents that look wrongly decoded, score a character; 0: off");
  table.add("deduplicate", c.deduplicate, "keep the first of equal documents");
}

void add_tokenizer_keys(KeyTable& table, text::BpeTrainConfig& c) {
  table.section("tokenizer", "Training of a byte-level BPE tokenizer by `shoal prepare`.");
  table.add("vocab_size", c.vocab_size, "ids in all: special tokens, 256 bytes, merges");
  table.add("min_frequency", c.min_frequency, "a pair seen less often is not merged");
  table.add("split", c.split, "how text is cut into pieces: gpt2 | llama3 | qwen2");
  table.add("special_tokens", c.special_tokens, "ids 0, 1, ...; the first ends a document");
  table.add("max_distinct_words", c.max_distinct_words,
            "of more distinct pieces, the most frequent are used");
}

}  // namespace

void add_prepare_keys(KeyTable& table, data::PrepareConfig& config) {
  table.section("prepare", "`shoal prepare`: text files to token shards.");
  add_source_keys(table, config.source);
  table.add("tokenizer", config.tokenizer, "train | bytes | path of a tokenizer.json");
  table.add("eos_token", config.eos_token,
            "spelling of the token that ends a document; empty: the usual name the file has");
  table.add("train_sample_mb", config.train_sample_mb, "text the tokenizer is trained on, MB");
  table.add("val_fraction", config.val_fraction, "share of the text held out, 0 to 0.5");
  table.add("val_split", config.val_split,
            "hash (whole documents by key) | tail (the end of each document)");
  table.add("shard_mb", config.shard_mb, "input a shard, MB; 0: by the size of the corpus");
  table.add("output", config.output, "folder: tokenizer.json, report.json, train/, val/");
  table.add("overwrite", config.overwrite, "replace an output folder that prepare made before");
  add_clean_keys(table, config.clean);
  add_tokenizer_keys(table, config.training);
}

}  // namespace shoal::app
