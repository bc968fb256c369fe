#include "text/byte_level_tokenizer.hpp"

#include <algorithm>
#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::text {
namespace {

std::vector<AddedToken> select(const TokenizerParts& parts, bool normalized) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : parts.added_tokens) {
    if (token.normalized != normalized || token.content.empty()) continue;
    if (normalized) normalize(std::string{token.content}, parts.normalization, token.content);
    chosen.push_back(std::move(token));
  }
  return chosen;
}

}  // namespace

ByteLevelTokenizer::ByteLevelTokenizer(TokenizerParts parts)
    : model_{std::move(parts.model)},
      pretokenizer_{std::move(parts.pretokenizer)},
      normalization_{parts.normalization},
      prefix_space_{parts.prefix_space},
      raw_tokens_{select(parts, false)},
      normalized_tokens_{select(parts, true)},
      token_bytes_{std::move(parts.token_bytes)},
      eos_id_{parts.eos_id},
      json_{std::move(parts.json)},
      hash_{std::move(parts.hash)} {
  for (const AddedToken& token : parts.added_tokens) added_ids_.emplace(token.content, token.id);
}

void ByteLevelTokenizer::encode(std::string_view text, Ids& ids) const {
  encode_all(text, false, ids);
}

void ByteLevelTokenizer::encode_ordinary(std::string_view text, Ids& ids) const {
  encode_all(text, true, ids);
}

void ByteLevelTokenizer::encode_all(std::string_view text, bool skip_special, Ids& ids) const {
  AddedTokenMatcher::Cursor cursor{text};
  while (true) {
    const AddedTokenMatcher::Match match = raw_tokens_.next(cursor, skip_special);
    encode_between(match.before, skip_special, ids);
    if (match.token == nullptr) return;
    ids.push_back(match.token->id);
  }
}

void ByteLevelTokenizer::encode_between(std::string_view text, bool skip_special, Ids& ids) const {
  std::string normalized;
  if (normalization_ != Normalization::none && !is_normalized(text, normalization_)) {
    normalize(text, normalization_, normalized);
    text = normalized;
  }
  AddedTokenMatcher::Cursor cursor{text};
  while (true) {
    const AddedTokenMatcher::Match match = normalized_tokens_.next(cursor, skip_special);
    encode_plain(match.before, ids);
    if (match.token == nullptr) return;
    ids.push_back(match.token->id);
  }
}

void ByteLevelTokenizer::encode_plain(std::string_view text, Ids& ids) const {
  if (text.empty()) return;
  std::string prefixed;
  if (prefix_space_ && text.front() != ' ') {
    prefixed.append(" ").append(text);
    text = prefixed;
  }
  if (!pretokenizer_ && model_.bytes_only()) {
    for (const char b : text) ids.push_back(model_.byte_id(static_cast<unsigned char>(b)));
    return;
  }
  std::vector<std::string_view> pieces;
  if (pretokenizer_) {
    pretokenizer_->split(text, pieces);
  } else {
    pieces.push_back(text);
  }
  model_.encode(pieces, ids);
}

std::string ByteLevelTokenizer::decode(std::span<const std::uint32_t> ids) const {
  std::string out;
  for (const std::uint32_t id : ids) {
    require(id < token_bytes_.size(), "token id " + std::to_string(id) +
                                          " is outside the vocabulary of " +
                                          std::to_string(token_bytes_.size()));
    out += token_bytes_[id];
  }
  return out;
}

std::int64_t ByteLevelTokenizer::vocab_size() const {
  return static_cast<std::int64_t>(token_bytes_.size());
}

std::int64_t ByteLevelTokenizer::added_token_id(std::string_view content) const {
  const auto found = added_ids_.find(std::string{content});
  return found == added_ids_.end() ? -1 : std::int64_t{found->second};
}

}  // namespace shoal::text
