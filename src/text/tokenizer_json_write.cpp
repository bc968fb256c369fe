#include <nlohmann/json.hpp>

#include "text/byte_alphabet.hpp"
#include "text/tokenizer_json.hpp"

namespace shoal::text {
namespace {

using Json = nlohmann::ordered_json;

Json pretokenizer(std::string_view regex) {
  Json byte_level = {{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", true},
                     {"use_regex", false}};
  if (regex.empty()) return byte_level;
  Json split = {{"type", "Split"},
                {"pattern", {{"Regex", regex}}},
                {"behavior", "Isolated"},
                {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({split, byte_level})}};
}

Json added_tokens(const std::vector<AddedToken>& tokens) {
  Json list = Json::array();
  for (const AddedToken& token : tokens) {
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", false},
                    {"lstrip", token.strip_left},
                    {"rstrip", token.strip_right},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  }
  return list;
}

Json model(const TokenizerFile& file) {
  const ByteAlphabet& alphabet = ByteAlphabet::instance();
  std::vector<std::string> spelled;
  for (const std::string& bytes : file.token_bytes) spelled.push_back(alphabet.spell(bytes));
  // Special tokens are in the vocabulary by their own spelling, as Hugging Face trainers have it.
  for (const AddedToken& token : file.added_tokens) spelled[token.id] = token.content;
  Json vocab = Json::object();
  auto& members = vocab.get_ref<Json::object_t&>();  // appending directly: no search for the key
  for (std::size_t id = 0; id < spelled.size(); ++id) members.emplace_back(spelled[id], id);
  Json merges = Json::array();
  // One string a merge: the older of the two spellings, which every version reads.
  for (const Merge& m : file.merges) merges.push_back(spelled[m.left] + " " + spelled[m.right]);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocab},
          {"merges", merges}};
}

}  // namespace

std::string write_tokenizer_json(const TokenizerFile& file) {
  const Json root = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(file.added_tokens)},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", pretokenizer(file.split_regex)},
                     {"post_processor", nullptr},
                     {"decoder",
                      {{"type", "ByteLevel"},
                       {"add_prefix_space", true},
                       {"trim_offsets", true},
                       {"use_regex", true}}},
                     {"model", model(file)}};
  return root.dump(1) + "\n";
}

std::unique_ptr<Tokenizer> make_bytes_tokenizer() {
  std::vector<std::string> token_bytes;
  token_bytes.reserve(257);
  for (int b = 0; b < 256; ++b) token_bytes.emplace_back(1, static_cast<char>(b));
  token_bytes.emplace_back("<|endoftext|>");
  const std::vector<AddedToken> added = {{.id = 256, .content = "<|endoftext|>", .special = true}};
  const std::vector<Merge> merges;
  return parse_tokenizer(
      write_tokenizer_json(
          {.split_regex = {}, .added_tokens = added, .token_bytes = token_bytes, .merges = merges}),
      {.name = "bytes tokenizer"});
}

}  // namespace shoal::text
