#pragma once
#include <memory>

#include "text/byte_level_tokenizer.hpp"
#include "text/json_node.hpp"

namespace shoal::text {

/// The pre-tokenizer of a tokenizer.json, which must contain a ByteLevel stage.
struct PreTokenizerParts {
  std::unique_ptr<PreTokenizer> pretokenizer;  ///< nullptr: the text is one piece
  bool prefix_space = false;
};
[[nodiscard]] PreTokenizerParts read_pretokenizer(const JsonNode& node);

/// Vocabulary and merges: byte ids, rules and the bytes of every token, added tokens excepted.
void read_bpe_model(const JsonNode& node, TokenizerParts& parts);

/// What tokenizer.json says about a tokenizer of ours.
struct TokenizerFile {
  std::string_view split_regex;  ///< empty: the text is one piece
  const std::vector<AddedToken>& added_tokens;
  const std::vector<std::string>& token_bytes;  ///< by id
  const std::vector<Merge>& merges;
};
[[nodiscard]] std::string write_tokenizer_json(const TokenizerFile& file);

}  // namespace shoal::text
