#pragma once
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::app {

/// Text of an input file or command line to a value and back. `parse` returns false and leaves the
/// value alone when the text is not one; what it prints, it reads.
bool parse_value(std::string_view text, bool& value);  ///< true | false | yes | no | 1 | 0
bool parse_value(std::string_view text, std::int64_t& value);
bool parse_value(std::string_view text, int& value);
bool parse_value(std::string_view text, std::uint64_t& value);
bool parse_value(std::string_view text, double& value);
bool parse_value(std::string_view text, float& value);
bool parse_value(std::string_view text, std::string& value);
bool parse_value(std::string_view text, std::vector<std::string>& value);  ///< a, b, c

[[nodiscard]] std::string show_value(bool value);
[[nodiscard]] std::string show_value(std::int64_t value);
[[nodiscard]] std::string show_value(int value);
[[nodiscard]] std::string show_value(std::uint64_t value);
[[nodiscard]] std::string show_value(double value);
[[nodiscard]] std::string show_value(float value);
[[nodiscard]] std::string show_value(const std::string& value);
[[nodiscard]] std::string show_value(const std::vector<std::string>& value);

/// What parse_value expects: "integer", "number", "yes or no", "text", "list".
[[nodiscard]] std::string_view type_name(const bool&);
[[nodiscard]] std::string_view type_name(const std::int64_t&);
[[nodiscard]] std::string_view type_name(const int&);
[[nodiscard]] std::string_view type_name(const std::uint64_t&);
[[nodiscard]] std::string_view type_name(const double&);
[[nodiscard]] std::string_view type_name(const float&);
[[nodiscard]] std::string_view type_name(const std::string&);
[[nodiscard]] std::string_view type_name(const std::vector<std::string>&);

/// One input key, bound to a field of a config struct that outlives the table.
struct Key {
  std::string name;  ///< "section.key"
  std::string type;
  std::string default_text;
  std::string help;
  std::function<bool(std::string_view)> parse;
  std::function<std::string()> show;

  [[nodiscard]] std::string section() const { return name.substr(0, name.find('.')); }
};

/// All input keys, in the order of the documentation.
class KeyTable {
 public:
  /// Keys that are added from here on belong to `name`; `help` heads their table.
  void section(std::string_view name, std::string_view help);
  template <class T>
  void add(std::string_view name, T& field, std::string_view help) {
    insert({.name = std::string{name},
            .type = std::string{type_name(field)},
            .default_text = show_value(field),
            .help = std::string{help},
            .parse = [&field](std::string_view text) { return parse_value(text, field); },
            .show = [&field] { return show_value(field); }});
  }

  [[nodiscard]] const std::vector<Key>& keys() const { return keys_; }
  [[nodiscard]] const Key* find(std::string_view name) const;  ///< nullptr when unknown
  /// The known key that is spelled most like `name`, for messages; empty when none is close.
  [[nodiscard]] std::string nearest(std::string_view name) const;
  /// Current values as an input file: "[section]" and "key = value" lines of `sections`.
  [[nodiscard]] std::string to_ini(const std::set<std::string>& sections) const;
  /// The documentation of all keys as Markdown tables.
  [[nodiscard]] std::string to_markdown() const;

 private:
  struct Section {
    std::string name, help;
  };
  void insert(Key key);
  std::vector<Section> sections_;
  std::vector<Key> keys_;
};

}  // namespace shoal::app
