#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "shoal/text/normalize.hpp"
#include "shoal/text/pretokenizer.hpp"
#include "shoal/text/tokenizer.hpp"
#include "text/added_tokens.hpp"
#include "text/bpe_model.hpp"

namespace shoal::text {

/// All that a byte-level tokenizer consists of; made by the reader and by the trainer.
struct TokenizerParts {
  BpeModel::Parts model;
  std::unique_ptr<PreTokenizer> pretokenizer;  ///< nullptr: the text is one piece
  Normalization normalization = Normalization::none;
  bool prefix_space = false;  ///< a space goes before a text that does not begin with one
  std::vector<AddedToken> added_tokens;
  std::vector<std::string> token_bytes;  ///< by id; empty for ids that are not used
  std::uint32_t eos_id = 0;
  std::string json;  ///< what to_json returns
  std::string hash;
};

class ByteLevelTokenizer final : public Tokenizer {
 public:
  explicit ByteLevelTokenizer(TokenizerParts parts);

  void encode(std::string_view text, std::vector<std::uint32_t>& ids) const override;
  void encode_ordinary(std::string_view text, std::vector<std::uint32_t>& ids) const override;
  [[nodiscard]] std::string decode(std::span<const std::uint32_t> ids) const override;
  [[nodiscard]] std::int64_t vocab_size() const override;
  [[nodiscard]] std::uint32_t eos_id() const override { return eos_id_; }
  [[nodiscard]] std::int64_t added_token_id(std::string_view content) const override;
  [[nodiscard]] std::string hash() const override { return hash_; }
  [[nodiscard]] std::string to_json() const override { return json_; }

 private:
  using Ids = std::vector<std::uint32_t>;
  void encode_all(std::string_view text, bool skip_special, Ids& ids) const;
  void encode_between(std::string_view text, bool skip_special, Ids& ids) const;
  void encode_plain(std::string_view text, Ids& ids) const;

  BpeModel model_;
  std::unique_ptr<PreTokenizer> pretokenizer_;
  Normalization normalization_;
  bool prefix_space_;
  AddedTokenMatcher raw_tokens_;         ///< looked for in the text as it comes
  AddedTokenMatcher normalized_tokens_;  ///< looked for after normalisation
  std::unordered_map<std::string, std::uint32_t> added_ids_;
  std::vector<std::string> token_bytes_;
  std::uint32_t eos_id_;
  std::string json_;
  std::string hash_;
};

}  // namespace shoal::text
