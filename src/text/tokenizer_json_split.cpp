// The pre_tokenizer section of tokenizer.json.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "shoal/base/error.hpp"
#include "text/pretokenize_regex.hpp"
#include "text/tokenizer_json.hpp"

namespace shoal::text {
namespace {

constexpr std::array kRules = {SplitRule::gpt2, SplitRule::llama3, SplitRule::qwen2};

std::string escaped_literal(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || std::isalnum(c) != 0 || c == ' ';
    if (!plain) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

SplitBehavior read_behavior(const JsonNode& node) {
  SplitBehavior behavior;
  behavior.invert = node.flag("invert", false);
  const std::string& name = node.at("behavior").string();
  if (name == "Removed") {
    behavior.kind = SplitBehavior::Kind::removed;
  } else if (name == "Contiguous") {
    behavior.kind = SplitBehavior::Kind::contiguous;
  } else if (name != "Isolated") {
    node.at("behavior").refuse("\"" + name + "\" is not supported (Isolated, Removed, Contiguous)");
  }
  return behavior;
}

std::unique_ptr<PreTokenizer> read_split(const JsonNode& node) {
  node.allow_only({"type", "pattern", "behavior", "invert"});
  const JsonNode pattern = node.at("pattern");
  pattern.allow_only({"Regex", "String"});
  const SplitBehavior behavior = read_behavior(node);
  if (pattern.has("String")) {
    return make_regex_split(escaped_literal(pattern.at("String").string()), behavior);
  }
  const std::string& regex = pattern.at("Regex").string();
  for (const SplitRule rule : kRules) {
    // These match every character, so isolating the matches and removing the gaps are the same.
    const bool keeps_matches = (behavior.kind == SplitBehavior::Kind::isolated) ||
                               (behavior.kind == SplitBehavior::Kind::removed && behavior.invert);
    if (regex == split_rule_regex(rule) && keeps_matches) return make_pretokenizer(rule);
  }
  try {
    return make_regex_split(regex, behavior);
  } catch (const InputError& error) {
    pattern.at("Regex").refuse(error.what());
  }
}

std::unique_ptr<PreTokenizer> read_digits(const JsonNode& node) {
  node.allow_only({"type", "individual_digits"});
  return make_regex_split(node.flag("individual_digits", false) ? "\\p{N}" : "\\p{N}+", {});
}

struct Reader {
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  bool byte_level = false;
  bool prefix_space = false;

  void read(const JsonNode& node) {
    const std::string type = node.type();
    if (type == "Sequence") {
      node.allow_only({"type", "pretokenizers"});
      const JsonNode list = node.at("pretokenizers");
      for (std::size_t i = 0; i < list.array_size(); ++i) read_stage(list.at(i));
    } else {
      read_stage(node);
    }
    if (!byte_level) node.refuse("has no ByteLevel stage; only byte-level BPE is supported");
  }

  void read_stage(const JsonNode& node) {
    const std::string type = node.type();
    if (byte_level) node.refuse("a stage after ByteLevel is not supported");
    if (type == "Split") {
      stages.push_back(read_split(node));
    } else if (type == "Digits") {
      stages.push_back(read_digits(node));
    } else if (type == "ByteLevel") {
      read_byte_level(node);
    } else {
      node.refuse("pre-tokenizer \"" + type + "\" is not supported (Split, Digits, ByteLevel)");
    }
  }

  void read_byte_level(const JsonNode& node) {
    node.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    byte_level = true;
    (void)node.flag("trim_offsets", true);  // moves offsets only, but must be a flag
    prefix_space = node.flag("add_prefix_space", true);
    if (prefix_space && !stages.empty()) {
      node.at("add_prefix_space").refuse("true after another stage is not supported");
    }
    if (node.flag("use_regex", true)) stages.push_back(make_pretokenizer(SplitRule::gpt2));
  }
};

}  // namespace

PreTokenizerParts read_pretokenizer(const JsonNode& node) {
  Reader reader;
  reader.read(node);
  if (reader.stages.empty()) return {nullptr, reader.prefix_space};
  return {make_pipeline(std::move(reader.stages)), reader.prefix_space};
}

}  // namespace shoal::text
