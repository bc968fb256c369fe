#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::text {

/// XXH3-128, 16 bytes; ordered, so that keys can be sorted and dealt to ranks.
struct Hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend auto operator<=>(const Hash128&, const Hash128&) = default;
};

[[nodiscard]] Hash128 hash128(std::string_view bytes);
[[nodiscard]] std::string to_hex(const Hash128& hash);  ///< 32 lower-case digits

}  // namespace shoal::text
