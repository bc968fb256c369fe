#pragma once
#include <cstdint>
#include <string>

/// Numbers for people.
namespace shoal::train {

[[nodiscard]] std::string fixed(double value, int digits);  ///< "3.1416"
[[nodiscard]] std::string bytes_text(std::int64_t bytes);   ///< "12.3 MiB"
[[nodiscard]] std::string count_text(std::int64_t count);   ///< "1.23 M"
[[nodiscard]] std::string si_text(double value);            ///< "4.56 G"
[[nodiscard]] std::string duration_text(double seconds);    ///< "1:02:03" or "42 s"

}  // namespace shoal::train
