#include "train/text.hpp"

#include <array>
#include <cmath>
#include <cstdio>

namespace shoal::train {
namespace {

std::string scaled(double value, double base, const std::array<const char*, 6>& units) {
  std::size_t unit = 0;
  while (std::abs(value) >= base && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  return fixed(value, unit == 0 ? 0 : 2) + units[unit];
}

}  // namespace

std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string bytes_text(std::int64_t bytes) {
  return scaled(static_cast<double>(bytes), 1024.0, {" B", " KiB", " MiB", " GiB", " TiB", " PiB"});
}
std::string count_text(std::int64_t count) {
  return si_text(static_cast<double>(count));
}
std::string si_text(double value) {
  return scaled(value, 1000.0, {"", " k", " M", " G", " T", " P"});
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0.0) return "?";
  const std::int64_t s = std::llround(seconds);
  if (s < 60) return std::to_string(s) + " s";
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", static_cast<long long>(s / 3600),
                static_cast<long long>(s / 60 % 60), static_cast<long long>(s % 60));
  return text.data();
}

}  // namespace shoal::train
