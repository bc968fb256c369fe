#pragma once
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace shoal::text {

/// A value of a JSON file together with where it stands, so that every complaint says what is wrong
/// and where. All failures are InputErrors "FILE: PATH: problem".
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string path)
      : value_{&value}, path_{std::move(path)} {}

  [[noreturn]] void refuse(std::string_view problem) const;
  [[nodiscard]] bool has(const char* key) const;  ///< there and not null
  [[nodiscard]] JsonNode at(const char* key) const;
  [[nodiscard]] JsonNode at(std::size_t index) const;
  [[nodiscard]] std::size_t array_size() const;
  [[nodiscard]] const nlohmann::json& object() const;
  [[nodiscard]] const std::string& string() const;
  [[nodiscard]] bool boolean() const;
  /// An integer in [0, limit).
  [[nodiscard]] std::uint32_t id(std::uint32_t limit) const;
  [[nodiscard]] bool flag(const char* key, bool otherwise) const;
  [[nodiscard]] std::string type() const { return at("type").string(); }
  /// Refuses an object with any other key: what is not understood must not be ignored.
  void allow_only(std::initializer_list<std::string_view> keys) const;
  /// Refuses unless the key is missing, null, false or "": a feature that is not supported.
  void must_be_off(const char* key) const;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const nlohmann::json& raw() const { return *value_; }

 private:
  const nlohmann::json* value_;
  std::string path_;
};

}  // namespace shoal::text
