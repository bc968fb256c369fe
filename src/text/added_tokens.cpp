#include "text/added_tokens.hpp"

#include <algorithm>
#include <cstring>

#include "text/char_class.hpp"

namespace shoal::text {
namespace {

unsigned char first_byte(std::string_view text) {
  return static_cast<unsigned char>(text.front());
}

std::string_view without_trailing_space(std::string_view text) {
  const CharClasses& classes = CharClasses::instance();
  while (!text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0U) == 0x80) --start;
    const Decoded last = decode_utf8(text.substr(start));
    const bool whole = start + static_cast<std::size_t>(last.length) == text.size();
    if (!whole || (classes[last.code_point] & kSpace) == 0) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string_view without_leading_space(std::string_view text) {
  const CharClasses& classes = CharClasses::instance();
  while (!text.empty()) {
    const Decoded first = decode_utf8(text);
    if ((classes[first.code_point] & kSpace) == 0) break;
    text.remove_prefix(static_cast<std::size_t>(first.length));
  }
  return text;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_{std::move(tokens)} {
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    if (a.content[0] != b.content[0]) return first_byte(a.content) < first_byte(b.content);
    return a.content.size() > b.content.size();
  });
  for (std::uint32_t i = 0; i < tokens_.size(); ++i) {
    Bucket& bucket = buckets_[first_byte(tokens_[i].content)];
    if (bucket.count++ == 0) bucket.first = i;
  }
  if (!tokens_.empty() && tokens_.front().content[0] == tokens_.back().content[0]) {
    only_start_ = first_byte(tokens_.front().content);
  }
}

std::size_t AddedTokenMatcher::next_start(std::string_view text, std::size_t from) const {
  if (only_start_ >= 0) {
    const void* hit = std::memchr(text.data() + from, only_start_, text.size() - from);
    return hit == nullptr ? text.size() : static_cast<const char*>(hit) - text.data();
  }
  while (from < text.size() && buckets_[static_cast<unsigned char>(text[from])].count == 0) ++from;
  return from;
}

const AddedToken* AddedTokenMatcher::longest_at(std::string_view text) const {
  const Bucket bucket = buckets_[first_byte(text)];
  for (std::uint32_t i = bucket.first; i < bucket.first + bucket.count; ++i) {
    if (text.starts_with(tokens_[i].content)) return &tokens_[i];
  }
  return nullptr;
}

AddedTokenMatcher::Match AddedTokenMatcher::next(Cursor& cursor, bool skip_special) const {
  const std::string_view text = cursor.text;
  const std::size_t from = cursor.done;
  std::size_t at = tokens_.empty() ? text.size() : next_start(text, cursor.scan);
  for (; at < text.size(); at = next_start(text, at)) {
    const AddedToken* token = longest_at(text.substr(at));
    const std::size_t end = at + (token == nullptr ? 1 : token->content.size());
    if (token == nullptr || (skip_special && token->special)) {
      at = end;
      continue;
    }
    cursor.scan = cursor.done = end;
    if (token->strip_left) at = without_trailing_space(text.substr(0, at)).size();
    if (token->strip_right) {
      cursor.done = text.size() - without_leading_space(text.substr(end)).size();
    }
    return {at > from ? text.substr(from, at - from) : std::string_view{}, token};
  }
  cursor.scan = cursor.done = text.size();
  return {text.substr(from), nullptr};
}

}  // namespace shoal::text
