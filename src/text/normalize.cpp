#include "shoal/text/normalize.hpp"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <algorithm>

#include "shoal/base/error.hpp"

namespace shoal::text {
namespace {

void check_icu(UErrorCode code, Where at = Where::current()) {
  if (U_FAILURE(code) != 0) fail("ICU", u_errorName(code), at);
}

const icu::Normalizer2& normalizer(Normalization form) {
  UErrorCode code = U_ZERO_ERROR;
  const icu::Normalizer2* found = nullptr;
  switch (form) {
    case Normalization::nfd:
      found = icu::Normalizer2::getNFDInstance(code);
      break;
    case Normalization::nfkc:
      found = icu::Normalizer2::getNFKCInstance(code);
      break;
    case Normalization::nfkd:
      found = icu::Normalizer2::getNFKDInstance(code);
      break;
    default:
      found = icu::Normalizer2::getNFCInstance(code);
      break;
  }
  check_icu(code);
  return *found;
}

bool is_ascii(std::string_view text) {
  // A block at a time: the compiler turns the inner loop into vector instructions.
  constexpr std::size_t kBlock = 256;
  for (std::size_t i = 0; i < text.size(); i += kBlock) {
    const std::size_t end = std::min(i + kBlock, text.size());
    unsigned char seen = 0;
    for (std::size_t j = i; j < end; ++j) seen |= static_cast<unsigned char>(text[j]);
    if (seen >= 0x80) return false;
  }
  return true;
}

icu::StringPiece piece(std::string_view text) {
  return {text.data(), static_cast<int32_t>(text.size())};
}

}  // namespace

bool is_normalized(std::string_view utf8, Normalization form) {
  if (form == Normalization::none || is_ascii(utf8)) return true;
  require(utf8.size() < (std::size_t{1} << 31), "a document of 2 GiB or more cannot be normalised");
  UErrorCode code = U_ZERO_ERROR;
  const bool yes = normalizer(form).isNormalizedUTF8(piece(utf8), code) != 0;
  check_icu(code);
  return yes;
}

void normalize(std::string_view utf8, Normalization form, std::string& out) {
  out.clear();
  if (is_normalized(utf8, form)) {
    out.assign(utf8);
    return;
  }
  UErrorCode code = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(&out);
  normalizer(form).normalizeUTF8(0, piece(utf8), sink, nullptr, code);
  check_icu(code);
}

}  // namespace shoal::text
