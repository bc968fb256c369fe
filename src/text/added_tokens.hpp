#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

/// A token that is found in the text by its spelling before anything else happens to it.
struct AddedToken {
  std::uint32_t id = 0;
  std::string content;
  bool special = false;     ///< ordinary text for encode_ordinary
  bool normalized = false;  ///< looked for after normalisation, in its normalised spelling
  bool strip_left = false;  ///< swallows the white space before it
  bool strip_right = false;
};

/// Finds added tokens: at the leftmost place the longest one.
class AddedTokenMatcher {
 public:
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  /// A walk over one text. Matches are sought from `scan`; text before `done` has been given out,
  /// by a token that swallows white space also beyond its own end.
  struct Cursor {
    std::string_view text;
    std::size_t scan = 0;
    std::size_t done = 0;
  };
  struct Match {
    std::string_view before;  ///< text up to the token that nobody has taken yet
    const AddedToken* token;  ///< nullptr: none is left, `before` is the rest of the text
  };
  /// Next token. With `skip_special` a special token is passed over as text.
  [[nodiscard]] Match next(Cursor& cursor, bool skip_special) const;

 private:
  [[nodiscard]] const AddedToken* longest_at(std::string_view text) const;
  [[nodiscard]] std::size_t next_start(std::string_view text, std::size_t from) const;

  std::vector<AddedToken> tokens_;  ///< by first byte, longest first
  struct Bucket {
    std::uint32_t first = 0, count = 0;
  };
  std::array<Bucket, 256> buckets_{};
  int only_start_ = -1;  ///< the byte all tokens begin with, if it is one
};

}  // namespace shoal::text
