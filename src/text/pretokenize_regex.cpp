#include "text/pretokenize_regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/base/unique_handle.hpp"

namespace shoal::text {
namespace {

struct CodeTraits {
  using Raw = pcre2_code*;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw code) noexcept { pcre2_code_free(code); }
};
struct MatchTraits {
  using Raw = pcre2_match_data*;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw data) noexcept { pcre2_match_data_free(data); }
};

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

pcre2_code* compile(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: in the engine the files are written for, ^ and $ always mean the ends of a line.
  const std::uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_MULTILINE;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   options, &error, &offset, nullptr);
  require(code != nullptr, "expression " + pattern + ": " + error_text(error) + " at offset " +
                               std::to_string(offset));
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // refused on some machines: then it interprets
  return code;
}

class RegexSplit final : public PreTokenizer {
 public:
  RegexSplit(std::string_view pattern, SplitBehavior behavior)
      : code_{compile(translate_regex(pattern))}, behavior_{behavior} {}

  void split(std::string_view text, std::vector<std::string_view>& pieces) const override {
    const UniqueHandle<MatchTraits> match{
        pcre2_match_data_create_from_pattern(code_.get(), nullptr)};
    expect(static_cast<bool>(match), "no memory for a match");
    Sink sink{behavior_, pieces};
    std::size_t done = 0;
    std::size_t from = 0;
    while (from <= text.size()) {
      const int rc = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                 text.size(), from, 0, match.get(), nullptr);
      if (rc == PCRE2_ERROR_NOMATCH) break;
      if (rc < 0) fail("PCRE2", error_text(rc));
      const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
      from = span[1];
      if (span[1] == span[0]) {  // an empty match cuts nothing: step over one character
        if (from >= text.size()) break;
        do ++from;
        while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0U) == 0x80);
        continue;
      }
      sink.add(text.substr(done, span[0] - done), false);
      sink.add(text.substr(span[0], span[1] - span[0]), true);
      done = span[1];
    }
    sink.add(text.substr(done), false);
  }

 private:
  struct Sink {
    SplitBehavior behavior;
    std::vector<std::string_view>& pieces;
    bool last = false;
    bool any = false;

    void add(std::string_view piece, bool matched) {
      if (piece.empty()) return;
      const bool hit = matched != behavior.invert;
      if (behavior.kind == SplitBehavior::Kind::removed && hit) return;
      if (behavior.kind == SplitBehavior::Kind::contiguous && any && last == hit) {
        pieces.back() = {pieces.back().data(), pieces.back().size() + piece.size()};
      } else {
        pieces.push_back(piece);
      }
      last = hit;
      any = true;
    }
  };

  UniqueHandle<CodeTraits> code_;
  SplitBehavior behavior_;
};

class Pipeline final : public PreTokenizer {
 public:
  explicit Pipeline(std::vector<std::unique_ptr<PreTokenizer>> stages)
      : stages_{std::move(stages)} {}

  void split(std::string_view text, std::vector<std::string_view>& pieces) const override {
    std::vector<std::string_view> now;
    if (!text.empty()) now.push_back(text);
    std::vector<std::string_view> next;
    for (const auto& stage : stages_) {
      next.clear();
      for (const std::string_view piece : now) stage->split(piece, next);
      now.swap(next);
    }
    pieces.insert(pieces.end(), now.begin(), now.end());
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_regex_split(std::string_view pattern, SplitBehavior behavior) {
  return std::make_unique<RegexSplit>(pattern, behavior);
}

std::unique_ptr<PreTokenizer> make_pipeline(std::vector<std::unique_ptr<PreTokenizer>> stages) {
  if (stages.size() == 1) return std::move(stages.front());
  return std::make_unique<Pipeline>(std::move(stages));
}

}  // namespace shoal::text
