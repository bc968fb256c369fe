#include "text/json_node.hpp"

#include <algorithm>

#include "shoal/base/error.hpp"

namespace shoal::text {

void JsonNode::refuse(std::string_view problem) const {
  throw InputError{path_ + ": " + std::string{problem}};
}

bool JsonNode::has(const char* key) const {
  const auto& o = object();
  const auto found = o.find(key);
  return found != o.end() && !found->is_null();
}

JsonNode JsonNode::at(const char* key) const {
  const auto& o = object();
  const auto found = o.find(key);
  if (found == o.end()) refuse("key \"" + std::string{key} + "\" is missing");
  return {*found, path_ + "." + key};
}

JsonNode JsonNode::at(std::size_t index) const {
  return {(*value_)[index], path_ + "[" + std::to_string(index) + "]"};
}

std::size_t JsonNode::array_size() const {
  if (!value_->is_array()) refuse("must be an array");
  return value_->size();
}

const nlohmann::json& JsonNode::object() const {
  if (!value_->is_object()) refuse("must be an object");
  return *value_;
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) refuse("must be a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) refuse("must be true or false");
  return value_->get<bool>();
}

std::uint32_t JsonNode::id(std::uint32_t limit) const {
  const bool fits = value_->is_number_unsigned() && value_->get<std::uint64_t>() < limit;
  if (!fits) refuse("must be an integer from 0 to " + std::to_string(limit - 1));
  return value_->get<std::uint32_t>();
}

bool JsonNode::flag(const char* key, bool otherwise) const {
  return has(key) ? at(key).boolean() : otherwise;
}

void JsonNode::allow_only(std::initializer_list<std::string_view> keys) const {
  for (const auto& item : object().items()) {
    if (std::find(keys.begin(), keys.end(), item.key()) != keys.end()) continue;
    refuse("key \"" + item.key() + "\" is not supported");
  }
}

void JsonNode::must_be_off(const char* key) const {
  if (!has(key)) return;
  const nlohmann::json& v = at(key).raw();
  const auto* text = v.get_ptr<const std::string*>();
  const bool off = v == false || v == 0.0 || (text != nullptr && text->empty());
  if (!off) at(key).refuse("is not supported");
}

}  // namespace shoal::text
