#include <cmath>
#include <cstdio>

#include "app/commands.hpp"
#include "app/loaded_model.hpp"
#include "shoal/base/log.hpp"
#include "shoal/train/evaluator.hpp"

namespace shoal::app {
namespace {

void check(const EvaluateConfig& c) {
  std::vector<std::string> problems;
  if (c.dataset.empty()) problems.emplace_back("evaluate.dataset is empty: name a dataset folder");
  if (c.seq_len < 0) problems.emplace_back("evaluate.seq_len: allowed: 0 or more");
  if (c.batch_size < 1) problems.emplace_back("evaluate.batch_size: allowed: 1 or more");
  if (c.max_windows < 0) problems.emplace_back("evaluate.max_windows: allowed: 0 or more");
  if (c.precision != "fp32" && c.precision != "bf16" && c.precision != "fp16") {
    problems.push_back("evaluate.precision = " + c.precision + ": allowed: fp32, bf16, fp16");
  }
  if (c.device != "auto" && c.device != "cpu" && c.device != "cuda") {
    problems.push_back("evaluate.device = " + c.device + ": allowed: auto, cpu, cuda");
  }
  require_no_problems(problems);
}

std::string result_text(const train::ValidationRow& row) {
  char text[128];
  std::snprintf(text, sizeof text, "loss %.5f nats a token, perplexity %.4f", row.loss,
                row.perplexity);
  std::string line = text;
  if (!std::isnan(row.bits_per_byte)) {
    std::snprintf(text, sizeof text, ", %.5f bits per byte", row.bits_per_byte);
    line += text;
  }
  return line;
}

train::ValidationRow evaluate(const Invocation& call, const std::filesystem::path& checkpoint,
                              const train::Evaluator::Task& what) {
  const EvaluateConfig& c = call.config.evaluate;
  const nn::ModelConfig model = train::read_manifest(checkpoint).model;
  const train::EvaluatorConfig windows{
      .micro_batch = c.batch_size,
      .seq_len = c.seq_len > 0 ? c.seq_len : model.max_position_embeddings,
      .max_windows = c.max_windows};
  require(windows.seq_len <= model.max_position_embeddings,
          "evaluate.seq_len is beyond the model's max_position_embeddings = " +
              std::to_string(model.max_position_embeddings));
  const DeviceKind device = train::choose_device(c.device);
  const DType elem = train::parse_precision(c.precision);
  const Exec dry = Exec::dry(device);
  const LoadedModel counted{dry, model, elem};
  train::Evaluator{dry, windows}.measure(dry, train::ForwardChain{counted.model()});

  const Exec exec{device, dry.arena().plan()};
  const LoadedModel loaded{exec, model, elem};
  loaded.load(exec, checkpoint);
  train::Evaluator evaluator{exec, windows};
  const train::ForwardChain chain{loaded.model()};
  // Each rank holds all experts, which can take every row.
  return evaluator
      .run(exec, {.model = &chain, .dataset = what.dataset},
           {.all = call.world, .data = {.index = call.world.rank(), .count = call.world.size()}})
      .row;
}

}  // namespace

ExitCode eval_command(const Invocation& call) {
  const EvaluateConfig& c = call.config.evaluate;
  check(c);
  const auto checkpoint = train::find_checkpoint(only_argument(call, "a checkpoint or run folder"));
  const train::Manifest manifest = train::read_manifest(checkpoint);
  const auto dataset = std::make_shared<const data::TokenDataset>(c.dataset);
  dataset->require_compatible(manifest.model.vocab_size, manifest.tokenizer_hash);
  const train::ValidationRow row = evaluate(call, checkpoint, {.dataset = dataset});
  log::info(checkpoint.string() + " on " + c.dataset + ": " + result_text(row));
  return ExitCode::finished;
}

}  // namespace shoal::app
