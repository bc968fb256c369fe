#include <algorithm>
#include <iomanip>
#include <iostream>
#include <iterator>

#include "app/commands.hpp"
#include "app/loaded_model.hpp"
#include "shoal/nn/generator.hpp"
#include "shoal/text/utf8.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::app {
namespace {

void check(const GenerateConfig& c) {
  std::vector<std::string> problems;
  nn::validate(c.sampling, problems);
  if (c.max_tokens < 1) problems.emplace_back("generate.max_tokens: allowed: 1 or more");
  if (c.precision != "fp32" && c.precision != "bf16" && c.precision != "fp16") {
    problems.push_back("generate.precision = " + c.precision + ": allowed: fp32, bf16, fp16");
  }
  if (c.device != "auto" && c.device != "cpu" && c.device != "cuda") {
    problems.push_back("generate.device = " + c.device + ": allowed: auto, cpu, cuda");
  }
  require_no_problems(problems);
}

/// A prompt of no token starts a document: what follows the end of one.
std::vector<std::int32_t> prompt_tokens(const GenerateConfig& c, const text::Tokenizer& tokenizer) {
  std::string text = c.prompt;
  if (text == "-") text.assign(std::istreambuf_iterator<char>{std::cin}, {});
  std::vector<std::uint32_t> ids;
  tokenizer.encode(text, ids);
  if (ids.empty()) ids.push_back(tokenizer.eos_id());
  return {ids.begin(), ids.end()};
}

/// Prints tokens as they come, whole UTF-8 characters at a time.
class Printer {
 public:
  explicit Printer(const text::Tokenizer& tokenizer) : tokenizer_{tokenizer} {}
  void add(std::int32_t token) {
    const auto id = static_cast<std::uint32_t>(token);
    pending_ += tokenizer_.decode(std::span{&id, 1});
    print(text::complete_utf8_prefix(pending_));
  }
  void finish() {
    print(static_cast<std::int64_t>(pending_.size()));
    std::cout << std::endl;
  }

 private:
  void print(std::int64_t bytes) {
    const auto count = static_cast<std::size_t>(bytes);
    std::cout << std::string_view{pending_}.substr(0, count) << std::flush;
    pending_.erase(0, count);
  }
  const text::Tokenizer& tokenizer_;
  std::string pending_;
};

/// Memory of a session, counted by running its longest call on a dry Exec.
ArenaPlan plan_session(DeviceKind device, const nn::ModelConfig& model, DType elem,
                       std::int64_t capacity) {
  const Exec dry = Exec::dry(device);
  const LoadedModel counted{dry, model, elem};
  nn::Generator generator{dry, counted.model(), {.max_tokens = capacity}};
  const std::vector<std::int32_t> longest(static_cast<std::size_t>(capacity), 0);
  (void)generator.append(dry, longest);
  return dry.arena().plan();
}

void print_logits(const std::vector<float>& logits) {
  std::cout << '[' << std::setprecision(9);
  for (std::size_t i = 0; i < logits.size(); ++i) std::cout << (i == 0 ? "" : ", ") << logits[i];
  std::cout << ']' << std::endl;
}

struct Text {
  const text::Tokenizer& tokenizer;
  std::vector<std::int32_t> prompt;
};

/// Streams the continuation to the terminal until the document or the room ends.
void generate(const Exec& exec, nn::Generator& generator, const GenerateConfig& c,
              const Text& text) {
  Printer printer{text.tokenizer};
  if (c.prompt != "-") std::cout << c.prompt << std::flush;
  std::vector<std::int32_t> next = text.prompt;
  while (generator.length() + static_cast<std::int64_t>(next.size()) < generator.capacity()) {
    const auto logits = generator.append(exec, next);
    const auto position = static_cast<std::uint64_t>(generator.length());
    const std::int32_t token = nn::sample(logits, c.sampling, position);
    if (token == static_cast<std::int32_t>(text.tokenizer.eos_id())) break;
    printer.add(token);
    next.assign(1, token);
  }
  printer.finish();
}

}  // namespace

ExitCode generate_command(const Invocation& call) {
  const GenerateConfig& c = call.config.generate;
  check(c);
  const auto checkpoint = train::find_checkpoint(only_argument(call, "a checkpoint or run folder"));
  const auto tokenizer = tokenizer_of(checkpoint, c.tokenizer);
  const nn::ModelConfig model = train::read_manifest(checkpoint).model;
  const std::vector<std::int32_t> next = prompt_tokens(c, *tokenizer);
  const auto prompt_length = static_cast<std::int64_t>(next.size());
  require(prompt_length < model.max_position_embeddings,
          "the prompt has " + std::to_string(prompt_length) + " tokens, the model takes " +
              std::to_string(model.max_position_embeddings - 1));
  const std::int64_t capacity =
      std::min(prompt_length + c.max_tokens, model.max_position_embeddings);

  const DeviceKind device = train::choose_device(c.device);
  const DType elem = train::parse_precision(c.precision);
  const Exec exec{device, plan_session(device, model, elem, capacity)};
  const LoadedModel loaded{exec, model, elem};
  loaded.load(exec, checkpoint);
  nn::Generator generator{exec, loaded.model(), {.max_tokens = capacity}};
  if (c.print_logits) {
    print_logits(generator.append(exec, next));
  } else {
    generate(exec, generator, c, {.tokenizer = *tokenizer, .prompt = next});
  }
  return ExitCode::finished;
}

}  // namespace shoal::app
