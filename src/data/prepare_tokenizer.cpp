#include <cmath>
#include <cstring>

#include "data/prepare_survey.hpp"
#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"

namespace shoal::data {
namespace {

/// Words as count, length, bytes back to back: what one rank sends to the one that trains.
std::string pack(const text::WordCounts& words) {
  std::string out;
  for (const auto& [bytes, count] : words.most_frequent(words.distinct())) {
    const std::array<std::int64_t, 2> head = {count, static_cast<std::int64_t>(bytes.size())};
    out.append(reinterpret_cast<const char*>(head.data()), sizeof(head));
    out += bytes;
  }
  return out;
}

void unpack(std::string_view packed, text::WordCounts& words) {
  while (!packed.empty()) {
    std::array<std::int64_t, 2> head{};
    expect(packed.size() >= sizeof(head), "a word table came over damaged");
    std::memcpy(head.data(), packed.data(), sizeof(head));
    packed.remove_prefix(sizeof(head));
    words.add_word(packed.substr(0, static_cast<std::size_t>(head[1])), head[0]);
    packed.remove_prefix(static_cast<std::size_t>(head[1]));
  }
}

std::string train(const PrepareConfig& config, const std::vector<std::string>& packed) {
  text::WordCounts all{text::parse_split_rule(config.training.split)};
  for (const std::string& part : packed) unpack(part, all);
  log::info("training the tokenizer on " + std::to_string(all.distinct()) + " distinct words");
  const Stopwatch watch;
  const auto tokenizer = text::train_bpe(all, config.training);
  log::info("tokenizer: " + std::to_string(tokenizer->vocab_size()) + " ids, trained in " +
            std::to_string(std::llround(watch.seconds())) + " s");
  return tokenizer->to_json();
}

}  // namespace

std::unique_ptr<text::Tokenizer> make_tokenizer(const PrepareRun& run,
                                                const text::WordCounts& words) {
  const PrepareConfig& config = run.config;
  if (config.tokenizer == "bytes") return text::make_bytes_tokenizer();
  text::TokenizerSource source{.name = config.tokenizer, .eos_token = config.eos_token};
  std::vector<std::string> packed;
  if (config.tokenizer == "train") {
    source = {.name = "trained tokenizer", .eos_token = config.training.special_tokens.front()};
    packed = run.comm.gather_strings(pack(words), 0);
  }
  std::string json;
  together(run.comm, [&] {
    if (!run.comm.is_root()) return;
    json = config.tokenizer == "train"
               ? train(config, packed)
               : text::load_tokenizer(config.tokenizer, config.eos_token)->to_json();
  });
  return text::parse_tokenizer(run.comm.broadcast_string(json, 0), source);
}

}  // namespace shoal::data
