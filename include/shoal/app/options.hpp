#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/app/key_table.hpp"

namespace shoal::app {

/// How a command reads its arguments.
struct OptionRules {
  std::vector<std::string> own;    ///< sections where `--key` without a section is looked up
  std::set<std::string> sections;  ///< whose keys the command line may set
  bool input_file = false;         ///< the first plain argument that ends in .ini is read
  std::string input_option;        ///< `--NAME FILE.ini` names the input file too; empty: none
  std::int64_t max_arguments = 0;  ///< plain arguments besides the input file
};

struct ParsedOptions {
  std::string input_file;                       ///< empty when none was given
  std::vector<std::string> arguments;           ///< plain ones
  std::set<std::string> given_on_command_line;  ///< names of keys
};

/// Reads the command line and the input file into the fields bound to `table`: the command line
/// beats the file, the file beats the defaults. Accepts `--section.key=value`, `--section.key
/// value`, `section.key=value` and `--key` of the command's own sections; '-' equals '_'. Every
/// problem (unknown key, value of a wrong type, unreadable file, key given twice) is appended to
/// `problems` with the key, what was given and what is allowed; nothing is thrown for them.
[[nodiscard]] ParsedOptions parse_options(const std::vector<std::string>& arguments,
                                          const OptionRules& rules, const KeyTable& table,
                                          std::vector<std::string>& problems);

/// Throws InputError that lists all problems, when there are any.
void require_no_problems(const std::vector<std::string>& problems);

}  // namespace shoal::app
