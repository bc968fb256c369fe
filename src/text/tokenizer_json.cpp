#include "text/tokenizer_json.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/text/hash.hpp"

namespace shoal::text {
namespace {

using nlohmann::json;

// Vocabulary ids of added tokens may lie far above the rest, but not arbitrarily far.
constexpr std::uint32_t kMaxId = 1U << 24;

Normalization read_normalizer(const JsonNode& node) {
  const std::string type = node.type();
  node.allow_only({"type"});
  if (type == "NFC") return Normalization::nfc;
  if (type == "NFD") return Normalization::nfd;
  if (type == "NFKC") return Normalization::nfkc;
  if (type == "NFKD") return Normalization::nfkd;
  node.refuse("normalizer \"" + type + "\" is not supported (NFC, NFD, NFKC, NFKD)");
}

/// Post-processors only add tokens around a text, which encode() leaves to its caller.
void check_post_processor(const JsonNode& node) {
  const std::string type = node.type();
  if (type == "Sequence") {
    const JsonNode list = node.at("processors");
    for (std::size_t i = 0; i < list.array_size(); ++i) check_post_processor(list.at(i));
  } else if (type != "ByteLevel" && type != "TemplateProcessing") {
    node.refuse("post-processor \"" + type + "\" is not supported (ByteLevel, TemplateProcessing)");
  }
}

AddedToken read_added_token(const JsonNode& node) {
  node.allow_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.id = node.at("id").id(kMaxId);
  token.content = node.at("content").string();
  if (token.content.empty()) node.at("content").refuse("must not be empty");
  token.special = node.flag("special", false);
  token.normalized = node.flag("normalized", !token.special);
  token.strip_left = node.flag("lstrip", false);
  token.strip_right = node.flag("rstrip", false);
  node.must_be_off("single_word");
  return token;
}

void read_added_tokens(const JsonNode& root, TokenizerParts& parts) {
  if (!root.has("added_tokens")) return;
  const JsonNode list = root.at("added_tokens");
  const json& vocabulary = root.at("model").at("vocab").object();
  std::unordered_map<std::uint32_t, std::string> contents;
  for (std::size_t i = 0; i < list.array_size(); ++i) {
    AddedToken token = read_added_token(list.at(i));
    const auto in_model = vocabulary.find(token.content);
    const bool same = in_model == vocabulary.end() || *in_model == token.id;
    if (!same) list.at(i).refuse("the vocabulary gives \"" + token.content + "\" another id");
    const bool taken = token.id < parts.token_bytes.size() && in_model == vocabulary.end() &&
                       !parts.token_bytes[token.id].empty();
    if (taken || !contents.emplace(token.id, token.content).second) {
      list.at(i).refuse("id " + std::to_string(token.id) + " belongs to another token");
    }
    parts.added_tokens.push_back(std::move(token));
  }
  for (const AddedToken& token : parts.added_tokens) {
    if (token.id >= parts.token_bytes.size()) parts.token_bytes.resize(token.id + 1);
    parts.token_bytes[token.id] = token.content;
  }
}

std::uint32_t find_eos(const TokenizerParts& parts, const TokenizerSource& source) {
  const auto id_of = [&](std::string_view content) -> std::int64_t {
    const auto found = std::find_if(parts.added_tokens.begin(), parts.added_tokens.end(),
                                    [&](const AddedToken& t) { return t.content == content; });
    return found == parts.added_tokens.end() ? -1 : std::int64_t{found->id};
  };
  if (!source.eos_token.empty()) {
    const std::int64_t id = id_of(source.eos_token);
    require(id >= 0, source.name + ": added_tokens: no token \"" + source.eos_token +
                         "\" to end a document");
    return static_cast<std::uint32_t>(id);
  }
  constexpr std::array<std::string_view, 7> kUsual = {
      "<|endoftext|>",         "<|end_of_text|>", "</s>",      "<eos>",
      "<｜end▁of▁sentence｜>", "<|im_end|>",      "<|return|>"};
  for (const std::string_view name : kUsual) {
    if (const std::int64_t id = id_of(name); id >= 0) return static_cast<std::uint32_t>(id);
  }
  throw InputError{source.name +
                   ": added_tokens: none of the usual names ends a document; name the token"};
}

/// Over what decides the ids, in a form that the layout of the file does not change.
std::string content_hash(const JsonNode& root) {
  json essence = json::object();
  for (const char* key : {"added_tokens", "normalizer", "pre_tokenizer"}) {
    essence[key] = root.has(key) ? root.at(key).raw() : json{};
  }
  const JsonNode model = root.at("model");
  essence["vocab"] = model.at("vocab").raw();
  essence["ignore_merges"] = model.flag("ignore_merges", false);
  json& merges = essence["merges"] = json::array();
  for (const json& merge : model.at("merges").raw()) {
    merges.push_back(merge.is_string()
                         ? merge
                         : json(merge[0].get<std::string>() + " " + merge[1].get<std::string>()));
  }
  return to_hex(hash128(essence.dump()));
}

void check_decoder(const JsonNode& node) {
  if (node.type() != "ByteLevel") {
    node.refuse("decoder \"" + node.type() + "\" is not supported (ByteLevel)");
  }
}

TokenizerParts read_parts(const JsonNode& root) {
  root.allow_only({"version", "truncation", "padding", "added_tokens", "normalizer",
                   "pre_tokenizer", "post_processor", "decoder", "model"});
  root.must_be_off("truncation");
  root.must_be_off("padding");
  TokenizerParts parts;
  read_bpe_model(root.at("model"), parts);
  if (!root.has("pre_tokenizer")) root.refuse("has no pre_tokenizer; ByteLevel is needed");
  PreTokenizerParts split = read_pretokenizer(root.at("pre_tokenizer"));
  parts.pretokenizer = std::move(split.pretokenizer);
  parts.prefix_space = split.prefix_space;
  if (root.has("normalizer")) parts.normalization = read_normalizer(root.at("normalizer"));
  if (root.has("post_processor")) check_post_processor(root.at("post_processor"));
  if (root.has("decoder")) check_decoder(root.at("decoder"));
  read_added_tokens(root, parts);
  parts.hash = content_hash(root);
  return parts;
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer(std::string text, const TokenizerSource& source) {
  json parsed;
  try {
    parsed = json::parse(text);
  } catch (const json::parse_error& error) {
    throw InputError{source.name + ": is not JSON: " + error.what()};
  }
  TokenizerParts parts = read_parts(JsonNode{parsed, source.name});
  parts.eos_id = find_eos(parts, source);
  parts.json = std::move(text);
  return std::make_unique<ByteLevelTokenizer>(std::move(parts));
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path,
                                          const std::string& eos_token) {
  std::ifstream file{path, std::ios::binary};
  require(file.good(), path.string() + ": cannot be opened");
  std::string text{std::istreambuf_iterator<char>{file}, {}};
  require(!file.bad() && !text.empty(), path.string() + ": cannot be read or is empty");
  return parse_tokenizer(std::move(text), {.name = path.string(), .eos_token = eos_token});
}

}  // namespace shoal::text
