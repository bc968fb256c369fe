#include <charconv>
#include <cmath>

#include "shoal/app/key_table.hpp"

namespace shoal::app {
namespace {

template <class T>
bool parse_number(std::string_view text, T& value) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  T parsed{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc{} || end != text.data() + text.size()) return false;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(parsed)) return false;
  }
  value = parsed;
  return true;
}

template <class T>
std::string show_number(T value) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return {text, end};
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

bool parse_value(std::string_view text, bool& value) {
  const bool yes = text == "true" || text == "yes" || text == "on" || text == "1";
  if (!yes && text != "false" && text != "no" && text != "off" && text != "0") return false;
  value = yes;
  return true;
}
bool parse_value(std::string_view text, std::int64_t& value) {
  return parse_number(text, value);
}
bool parse_value(std::string_view text, int& value) {
  return parse_number(text, value);
}
bool parse_value(std::string_view text, std::uint64_t& value) {
  return parse_number(text, value);
}
bool parse_value(std::string_view text, double& value) {
  return parse_number(text, value);
}
bool parse_value(std::string_view text, float& value) {
  return parse_number(text, value);
}
bool parse_value(std::string_view text, std::string& value) {
  if (text.find_first_of("#\n\r") != std::string_view::npos) return false;  // a comment when saved
  value = text;
  return true;
}
bool parse_value(std::string_view text, std::vector<std::string>& value) {
  if (text.find_first_of("#\n\r") != std::string_view::npos) return false;
  std::vector<std::string> items;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const auto item = trim(text.substr(0, comma));
    if (!item.empty()) items.emplace_back(item);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
  }
  value = std::move(items);
  return true;
}

std::string show_value(bool value) {
  return value ? "true" : "false";
}
std::string show_value(std::int64_t value) {
  return show_number(value);
}
std::string show_value(int value) {
  return show_number(value);
}
std::string show_value(std::uint64_t value) {
  return show_number(value);
}
std::string show_value(double value) {
  return show_number(value);
}
std::string show_value(float value) {
  return show_number(value);
}
std::string show_value(const std::string& value) {
  return value;
}
std::string show_value(const std::vector<std::string>& value) {
  std::string text;
  for (const auto& item : value) text += (text.empty() ? "" : ", ") + item;
  return text;
}

std::string_view type_name(const bool&) {
  return "true or false";
}
std::string_view type_name(const std::int64_t&) {
  return "integer";
}
std::string_view type_name(const int&) {
  return "integer";
}
std::string_view type_name(const std::uint64_t&) {
  return "integer >= 0";
}
std::string_view type_name(const double&) {
  return "number";
}
std::string_view type_name(const float&) {
  return "number";
}
std::string_view type_name(const std::string&) {
  return "text";
}
std::string_view type_name(const std::vector<std::string>&) {
  return "list";
}

}  // namespace shoal::app
