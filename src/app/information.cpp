#include <algorithm>
#include <iostream>

#include "shoal/app/commands.hpp"
#include "shoal/comm/environment.hpp"
#include "shoal/device/device.hpp"

namespace shoal::app {
namespace {

#ifdef __clang__
constexpr std::string_view kCompiler = "clang";
#else
constexpr std::string_view kCompiler = "g++";
#endif

std::string usage_line(const Command& command) {
  return "shoal " + std::string{command.name} + " " + std::string{command.usage};
}

std::string pad(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

void print_overview() {
  std::cout << "Shoal trains Mixture-of-Experts language models on clusters.\n\n";
  for (const Command& command : commands()) {
    std::cout << "  " << pad("shoal " + std::string{command.name}, 18) << command.summary << "\n";
  }
  std::cout << "  " << pad("shoal help NAME", 18) << "arguments and keys of a command\n"
            << "  " << pad("shoal help --keys", 18) << "every input key, as Markdown\n"
            << "  " << pad("shoal --version", 18) << "version and build options\n\n"
            << "Keys come from an input file (INI, inputs/README.md) and the command line:\n"
            << "  mpirun -np 2 shoal train inputs/smoke/tiny_cpu.ini --model.hidden_size=128\n"
            << "Exit codes: 0 finished, 1 failed, 2 bad input, 75 can continue (run it again),\n"
            << "93 do not restart.\n";
}

void print_command(const Command& command) {
  Config config;
  const KeyTable keys = make_key_table(config);
  std::cout << usage_line(command) << "\n\n" << command.summary << "\n";
  for (const std::string& section : command.rules.sections) {
    std::cout << "\n[" << section << "]\n";
    for (const Key& key : keys.keys()) {
      if (key.section() != section) continue;
      const auto& short_ones = command.rules.own;
      const bool own = std::find(short_ones.begin(), short_ones.end(), section) != short_ones.end();
      const std::string name = own ? key.name.substr(section.size() + 1) : key.name;
      std::cout << "  --" << pad(name + "=" + key.default_text, 40) << " " << key.help << "\n";
    }
  }
}

}  // namespace

std::string build_information() {
  std::string text = "shoal " SHOAL_VERSION "\nbuilt with ";
  text.append(kCompiler).append(" " __VERSION__);
  text += ", " SHOAL_BUILD_TYPE ", -march=" SHOAL_HOST_MARCH;
  const std::string sanitizers = SHOAL_SANITIZERS;
  if (!sanitizers.empty()) text += ", -fsanitize=" + sanitizers;
  text += "\ndevices: cpu";
  if constexpr (kHasCuda) text += ", cuda (compute capability " SHOAL_GPU_ARCHS ")";
  text += "\nmpi: " + comm::Environment::version() + "\n";
  return text;
}

bool print_information(const std::vector<std::string>& arguments) {
  const std::string first = arguments.empty() ? "help" : arguments.front();
  if (first == "--version" || first == "version") {
    std::cout << build_information();
    return true;
  }
  if (first != "help" && first != "--help" && first != "-h") {
    const bool asks = arguments.size() > 1 && (arguments[1] == "--help" || arguments[1] == "-h");
    const Command* command = asks ? find_command(first) : nullptr;
    if (command != nullptr) print_command(*command);
    return command != nullptr;
  }
  const std::string topic = arguments.size() > 1 ? arguments[1] : std::string{};
  if (topic == "--keys") {
    Config config;
    std::cout << make_key_table(config).to_markdown();
  } else if (const Command* command = find_command(topic); command != nullptr) {
    print_command(*command);
  } else {
    print_overview();
  }
  return true;
}

}  // namespace shoal::app
