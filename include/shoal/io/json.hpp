#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "shoal/base/error.hpp"

namespace shoal::io {

using Json = nlohmann::json;  // objects keep their keys sorted: equal content gives equal text

/// Parses one JSON value that takes up the whole text. InputError names `what` (a file) and the
/// position; a key that occurs twice in an object is an error too.
[[nodiscard]] Json parse_json(std::string_view text, std::string_view what);
[[nodiscard]] Json read_json_file(const std::filesystem::path& path);

/// Sorted keys, two spaces of indentation, final newline, shortest form of each number.
[[nodiscard]] std::string canonical_dump(const Json& value);
void write_json_file(const std::filesystem::path& path, const Json& value);  ///< atomically

/// Member `key` of `object` as T; InputError names `what`, the key and what was expected.
template <class T>
[[nodiscard]] T get_field(const Json& object, std::string_view key, std::string_view what) {
  const auto where = std::string{what} + ": key \"" + std::string{key} + "\"";
  require(object.is_object(), std::string{what} + ": expected a JSON object");
  const auto found = object.find(key);
  require(found != object.end(), where + " is missing");
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    require(found->is_number_integer(), where + " must be an integer");
    if constexpr (std::is_unsigned_v<T>) {
      require(found->is_number_unsigned(), where + " must not be negative");
    }
  }
  try {
    return found->get<T>();
  } catch (const Json::exception& error) {
    throw InputError{where + ": " + error.what()};
  }
}
/// The same, or `fallback` where the key is absent.
template <class T>
[[nodiscard]] T get_field_or(const Json& object, std::string_view key, T fallback,
                             std::string_view what) {
  return object.is_object() && object.contains(key) ? get_field<T>(object, key, what) : fallback;
}

}  // namespace shoal::io
