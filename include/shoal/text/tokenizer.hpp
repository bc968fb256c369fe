#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

/// Text to token ids and back. Immutable and safe to share between threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Appends the ids of `text`. The same ids as Hugging Face `encode(text,
  /// add_special_tokens=False)`: special tokens spelled out in the text become their ids; post-
  /// processors, which only add tokens around the text, play no part. Bytes that are not UTF-8 are
  /// encoded byte by byte, so decode(encode(x)) == x for any x (unless the file has a normalizer).
  virtual void encode(std::string_view text, std::vector<std::uint32_t>& ids) const = 0;

  /// As encode, but the spelling of a special token is ordinary text: what comes from a corpus
  /// cannot forge the end of a document.
  virtual void encode_ordinary(std::string_view text, std::vector<std::uint32_t>& ids) const = 0;

  /// Bytes of the tokens, special tokens by their spelling. May end inside a UTF-8 character
  /// (complete_utf8_prefix). Throws InputError for an id >= vocab_size(); an unused id is empty.
  [[nodiscard]] virtual std::string decode(std::span<const std::uint32_t> ids) const = 0;

  [[nodiscard]] virtual std::int64_t vocab_size() const = 0;  ///< highest id + 1
  [[nodiscard]] virtual std::uint32_t eos_id() const = 0;     ///< ends every document
  /// Id of a special or added token by its spelling; -1 when there is none.
  [[nodiscard]] virtual std::int64_t added_token_id(std::string_view content) const = 0;
  /// 32 hex digits of the content (formatting of the file does not matter): names the tokenizer in
  /// shards and checkpoints.
  [[nodiscard]] virtual std::string hash() const = 0;
  /// The tokenizer as a tokenizer.json that Hugging Face `tokenizers` loads and that encodes the
  /// same there. A tokenizer that was loaded from a file returns that file's text.
  [[nodiscard]] virtual std::string to_json() const = 0;
};

/// Each byte is its own token 0..255; 256 is the end of a document, "<|endoftext|>".
[[nodiscard]] std::unique_ptr<Tokenizer> make_bytes_tokenizer();

/// Where a tokenizer.json comes from and which of its tokens ends a document.
struct TokenizerSource {
  std::string name = "tokenizer.json";  ///< for messages
  std::string eos_token;  ///< spelling; empty = the first of the usual names that the file has
};

/// Reads a Hugging Face tokenizer.json: byte-level BPE with GPT-2, cl100k/Llama-3, Qwen2/Qwen3 or
/// any other Split expressions. Throws InputError that names the problem when the text is malformed
/// or needs a feature that would be encoded differently here.
[[nodiscard]] std::unique_ptr<Tokenizer> parse_tokenizer(std::string json,
                                                         const TokenizerSource& source);

/// parse_tokenizer on a file. Throws InputError also when the file cannot be read.
[[nodiscard]] std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path,
                                                        const std::string& eos_token = "");

}  // namespace shoal::text
