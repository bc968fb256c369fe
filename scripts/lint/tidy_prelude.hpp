#pragma once
// Read before every file that clang-tidy checks. Clang 14 (Debian 12) lacks two things that the
// compilers Shoal is built with have; these stand-ins have the same interface.
#if defined(__clang__) && __clang_major__ < 15
#include <cstdint>
namespace std {
struct source_location {
  static constexpr source_location current(const char* file = __builtin_FILE(),
                                           unsigned line = __builtin_LINE()) {
    source_location here;
    here.file_ = file;
    here.line_ = line;
    return here;
  }
  [[nodiscard]] constexpr const char* file_name() const { return file_; }
  [[nodiscard]] constexpr unsigned line() const { return line_; }

 private:
  const char* file_ = "";
  unsigned line_ = 0;
};
}  // namespace std
namespace shoal_tidy {
struct Half {
  Half() = default;
  explicit Half(float x) : bits{static_cast<std::uint16_t>(x)} {}
  explicit operator float() const { return static_cast<float>(bits); }
  std::uint16_t bits = 0;
};
}  // namespace shoal_tidy
#define _Float16 ::shoal_tidy::Half
#endif
