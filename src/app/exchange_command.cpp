#include "app/commands.hpp"
#include "shoal/base/log.hpp"
#include "shoal/train/huggingface.hpp"

namespace shoal::app {

ExitCode export_command(const Invocation& call) {
  const ExchangeConfig& config = call.config.export_;
  std::vector<std::string> problems;
  if (config.format != "safetensors") {
    problems.push_back("export.format = " + config.format + ": allowed: safetensors");
  }
  if (config.output.empty()) problems.emplace_back("export.output is empty: name a new folder");
  if (config.shard_mb < 1) problems.emplace_back("export.shard_mb: allowed: 1 or more");
  if (config.dtype != "f32" && config.dtype != "bf16" && config.dtype != "f16") {
    problems.push_back("export.dtype = " + config.dtype + ": allowed: f32, bf16, f16");
  }
  require_no_problems(problems);
  train::export_huggingface({.checkpoint = only_argument(call, "a checkpoint or run folder"),
                             .output = config.output,
                             .dtype = dtype_from_name(config.dtype),
                             .shard_bytes = config.shard_mb << 20,
                             .tokenizer = config.tokenizer});
  log::info("wrote " + config.output + "; transformers: AutoModelForCausalLM.from_pretrained(\"" +
            config.output + "\")");
  return ExitCode::finished;
}

ExitCode import_command(const Invocation& call) {
  const ExchangeConfig& config = call.config.import_;
  require(!config.output.empty(), "import.output is empty: name a run folder");
  const auto checkpoint = train::import_huggingface(
      {.folder = only_argument(call, "a folder with config.json"), .run_dir = config.output});
  log::info("wrote " + checkpoint.string() +
            "; shoal train INPUT.ini --init-from=" + checkpoint.string());
  return ExitCode::finished;
}

}  // namespace shoal::app
