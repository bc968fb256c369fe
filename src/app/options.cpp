#include "shoal/app/options.hpp"

#include <algorithm>
#include <array>
#include <boost/program_options.hpp>
#include <fstream>
#include <sstream>

#include "shoal/base/error.hpp"

namespace shoal::app {
namespace {

namespace po = boost::program_options;

/// One `key = value` as Boost found it, before it is looked up.
struct Assignment {
  std::string key, value;
};

std::string full_name(std::string name, const OptionRules& rules, const KeyTable& table) {
  std::replace(name.begin(), name.end(), '-', '_');
  if (name.find('.') != std::string::npos || rules.own.empty()) return name;
  const auto has_it = [&](const auto& section) { return table.find(section + "." + name); };
  const auto found = std::find_if(rules.own.begin(), rules.own.end(), has_it);
  return (found == rules.own.end() ? rules.own.front() : *found) + "." + name;
}

bool is_assignment(const std::string& text) {
  const auto equals = text.find('=');
  const auto dot = text.find('.');
  if (equals == std::string::npos || dot == std::string::npos || dot > equals) return false;
  return std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(equals), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
  });
}

/// Whether `text` is a value of a switch rather than a plain argument.
bool is_switch_value(std::string_view text) {
  constexpr std::array<std::string_view, 6> kWords = {"true", "false", "yes", "no", "on", "off"};
  return std::find(kWords.begin(), kWords.end(), text) != kWords.end();
}

/// Brings every spelling of an assignment to "--section.key=value"; a switch that no such word
/// follows gets "=true".
std::vector<std::string> normalize(const std::vector<std::string>& arguments,
                                   const OptionRules& rules, const KeyTable& table) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const bool option = argument.starts_with("--") && argument.size() > 2;
    if (!rules.input_option.empty() && argument.starts_with("--" + rules.input_option)) {
      const std::string rest = argument.substr(2 + rules.input_option.size());
      if (rest.empty() || rest.front() == '=') {
        result.push_back(!rest.empty() ? rest.substr(1)
                                       : (i + 1 < arguments.size() ? arguments[++i] : ""));
        continue;
      }
    }
    if (!option && !is_assignment(argument)) {
      result.push_back(argument);
      continue;
    }
    const auto equals = argument.find('=');
    const auto begin = option ? 2U : 0U;
    const std::string name =
        full_name(argument.substr(begin, equals == std::string::npos ? equals : equals - begin),
                  rules, table);
    std::string value = "true";
    const Key* key = table.find(name);
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (key != nullptr && key->type == type_name(bool{})) {
      if (i + 1 < arguments.size() && is_switch_value(arguments[i + 1])) value = arguments[++i];
    } else if (key != nullptr) {
      value = i + 1 < arguments.size() ? arguments[++i] : "";
    }
    result.push_back("--" + name + "=" + value);
  }
  return result;
}

po::options_description describe(const KeyTable& table) {
  po::options_description description;
  for (const Key& key : table.keys()) {
    description.add_options()(key.name.c_str(), po::value<std::string>(), key.help.c_str());
  }
  return description;
}

std::vector<Assignment> assignments(const po::parsed_options& parsed,
                                    std::vector<std::string>& plain) {
  std::vector<Assignment> found;
  for (const auto& option : parsed.options) {
    if (option.position_key >= 0) {
      plain.insert(plain.end(), option.value.begin(), option.value.end());
      continue;
    }
    std::string value = option.value.empty() ? "" : option.value.front();
    std::string key = option.string_key;
    // Boost hands an unknown "--a.b=c" back in one piece.
    if (option.unregistered && !option.original_tokens.empty()) {
      const std::string& token = option.original_tokens.front();
      if (const auto equals = token.find('='); token.starts_with("--")) {
        key = token.substr(2, equals == std::string::npos ? equals : equals - 2);
        if (equals != std::string::npos) value = token.substr(equals + 1);
      }
    }
    found.push_back({std::move(key), std::move(value)});
  }
  return found;
}

/// Looks up and sets each assignment that was not set by a stronger source.
class Setter {
 public:
  Setter(const KeyTable& table, std::vector<std::string>& problems)
      : table_{table}, problems_{problems} {}

  void apply(const std::vector<Assignment>& from, const std::string& source,
             const std::set<std::string>* sections) {
    std::set<std::string> here;
    for (const auto& [name, value] : from) {
      const Key* key = table_.find(name);
      if (key == nullptr) {
        unknown(source, name);
        continue;
      }
      if (!here.insert(name).second) problems_.push_back(source + name + " is given twice");
      if (sections != nullptr && !sections->contains(key->section())) {
        problems_.push_back(source + name + " has no meaning for this command");
      }
      if (given_.contains(name)) continue;
      if (!key->parse(value)) {
        problems_.push_back(source + name + " = \"" + value + "\": expected " + expected(*key));
      }
    }
    given_.merge(here);
  }
  [[nodiscard]] const std::set<std::string>& given() const { return given_; }

 private:
  static std::string expected(const Key& key) {
    const bool text = key.type == "text" || key.type == "list";
    return key.type + (text ? " without '#'" : "") + " (" + key.help + ")";
  }
  void unknown(const std::string& source, const std::string& name) {
    const auto near = table_.nearest(name);
    problems_.push_back(
        source + "unknown key \"" + name + "\"" +
        (near.empty() ? "; `shoal help --keys` lists all" : "; did you mean \"" + near + "\"?"));
  }

  const KeyTable& table_;
  std::vector<std::string>& problems_;
  std::set<std::string> given_;
};

void read_file(const std::string& path, const po::options_description& description, Setter& setter,
               std::vector<std::string>& problems) {
  std::ifstream stream{path};
  std::stringstream content;
  if (!stream || !(content << stream.rdbuf())) {
    problems.push_back(path + ": cannot read this input file");
    return;
  }
  try {
    const auto parsed = po::parse_config_file(content, description, /*allow_unregistered=*/true);
    std::vector<std::string> plain;
    setter.apply(assignments(parsed, plain), path + ": ", nullptr);
  } catch (const po::error& error) {
    problems.push_back(path + ": " + error.what());
  }
}

}  // namespace

ParsedOptions parse_options(const std::vector<std::string>& arguments, const OptionRules& rules,
                            const KeyTable& table, std::vector<std::string>& problems) {
  const auto description = describe(table);
  ParsedOptions result;
  Setter setter{table, problems};
  try {
    namespace style = po::command_line_style;
    const auto parsed = po::command_line_parser(normalize(arguments, rules, table))
                            .options(description)
                            .style(style::allow_long | style::long_allow_adjacent)
                            .allow_unregistered()
                            .run();
    setter.apply(assignments(parsed, result.arguments), "command line: ", &rules.sections);
    result.given_on_command_line = setter.given();
  } catch (const po::error& error) {
    problems.push_back(std::string{"command line: "} + error.what());
  }
  auto& plain = result.arguments;
  const auto file = std::find_if(plain.begin(), plain.end(), [&](const std::string& argument) {
    return rules.input_file && argument.ends_with(".ini");
  });
  if (file != plain.end()) {
    result.input_file = *file;
    plain.erase(file);
    read_file(result.input_file, description, setter, problems);
  }
  for (std::size_t i = static_cast<std::size_t>(rules.max_arguments); i < plain.size(); ++i) {
    problems.push_back("command line: argument \"" + plain[i] + "\" has no meaning here");
  }
  return result;
}

void require_no_problems(const std::vector<std::string>& problems) {
  if (problems.empty()) return;
  std::string text = problems.size() == 1 ? "" : std::to_string(problems.size()) + " problems:\n";
  for (const auto& problem : problems) text += (problems.size() == 1 ? "" : "  ") + problem + "\n";
  text.pop_back();
  throw InputError{text};
}

}  // namespace shoal::app
