#include "app/keys.hpp"

namespace shoal::app {

void add_text_keys(KeyTable& table, Config& config) {
  auto& c = config.clean;
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

  auto& t = config.tokenizer;
  table.section("tokenizer", "Training of a byte-level BPE tokenizer by `shoal prepare`.");
  table.add("vocab_size", t.vocab_size, "ids in all: special tokens, 256 bytes, merges");
  table.add("min_frequency", t.min_frequency, "a pair seen less often is not merged");
  table.add("split", t.split, "how text is cut into pieces: gpt2 | llama3 | qwen2");
  table.add("special_tokens", t.special_tokens, "ids 0, 1, ...; the first ends a document");
  table.add("max_distinct_words", t.max_distinct_words,
            "of more distinct pieces, the most frequent are used");
}

}  // namespace shoal::app
