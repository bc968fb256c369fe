// The model section of tokenizer.json.
#include <utility>

#include "text/byte_alphabet.hpp"
#include "text/tokenizer_json.hpp"

namespace shoal::text {
namespace {

constexpr std::uint32_t kMaxId = 1U << 24;  // a wrong id must not reserve gigabytes

using Vocabulary = std::unordered_map<std::string, std::uint32_t>;

Vocabulary read_vocabulary(const JsonNode& node, std::vector<std::string>& token_bytes) {
  Vocabulary vocabulary;
  std::vector<bool> used;
  for (const auto& item : node.object().items()) {
    const std::uint32_t id = JsonNode{item.value(), node.path() + "." + item.key()}.id(kMaxId);
    if (id >= used.size()) {
      used.resize(id + 1);
      token_bytes.resize(id + 1);
    }
    if (used[id]) node.refuse("id " + std::to_string(id) + " is given to two tokens");
    used[id] = true;
    // A token outside the byte alphabet cannot come out of merges; it is decoded as it stands.
    token_bytes[id] = ByteAlphabet::instance().unspell(item.key()).value_or(item.key());
    vocabulary.emplace(item.key(), id);
  }
  return vocabulary;
}

std::pair<std::string, std::string> read_pair(const JsonNode& node) {
  if (node.raw().is_string()) {
    const std::string& text = node.string();
    const auto space = text.find(' ');
    const bool one = space != std::string::npos && text.find(' ', space + 1) == std::string::npos;
    if (!one || space == 0 || space + 1 == text.size()) {
      node.refuse(R"(a merge is "left right" or ["left", "right"])");
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (node.array_size() != 2) node.refuse("a merge has two tokens");
  return {node.at(std::size_t{0}).string(), node.at(std::size_t{1}).string()};
}

std::vector<Merge> read_merges(const JsonNode& node, const Vocabulary& vocabulary) {
  std::vector<Merge> merges;
  const std::size_t n = node.array_size();
  merges.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto [left, right] = read_pair(node.at(i));
    const auto id = [&](const std::string& token) {
      const auto found = vocabulary.find(token);
      if (found == vocabulary.end()) {
        node.at(i).refuse("token \"" + token + "\" is not in the vocabulary");
      }
      return found->second;
    };
    merges.push_back({id(left), id(right), id(left + right)});
  }
  return merges;
}

void check_features(const JsonNode& node) {
  node.allow_only({"type", "dropout", "unk_token", "continuing_subword_prefix",
                   "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                   "merges"});
  // Files of early versions have no type; those of BPE have merges.
  if (node.has("type") && node.type() != "BPE") {
    node.at("type").refuse("\"" + node.type() + "\" is not supported (BPE)");
  }
  // unk_token, fuse_unk and byte_fallback never act: read_bpe_model insists on all 256 bytes.
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    node.must_be_off(key);
  }
}

}  // namespace

void read_bpe_model(const JsonNode& node, TokenizerParts& parts) {
  check_features(node);
  const JsonNode vocab = node.at("vocab");
  const Vocabulary vocabulary = read_vocabulary(vocab, parts.token_bytes);
  const ByteAlphabet& alphabet = ByteAlphabet::instance();
  for (int b = 0; b < 256; ++b) {
    const std::string spelled = alphabet.spell(std::string(1, static_cast<char>(b)));
    const auto found = vocabulary.find(spelled);
    if (found == vocabulary.end()) {
      vocab.refuse("byte " + std::to_string(b) + " (\"" + spelled +
                   "\") has no token, so not every text could be encoded");
    }
    parts.model.byte_ids[b] = found->second;
  }
  parts.model.merges = read_merges(node.at("merges"), vocabulary);
  if (!node.flag("ignore_merges", false)) return;
  for (const auto& [token, id] : vocabulary) {
    if (auto bytes = alphabet.unspell(token)) parts.model.whole_pieces.emplace(*bytes, id);
  }
}

}  // namespace shoal::text
