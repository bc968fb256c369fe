#include "app/commands.hpp"

#include <algorithm>

namespace shoal::app {
namespace {

const std::set<std::string>& run_sections() {
  static const std::set<std::string> sections = {"model",    "compute", "data",       "optim",
                                                 "parallel", "eval",    "checkpoint", "metrics",
                                                 "training", "plan"};
  return sections;
}

std::set<std::string> run_sections_and(const std::string& section) {
  std::set<std::string> all = run_sections();
  all.insert(section);
  return all;
}

std::vector<Command> make_table() {
  const OptionRules run{
      .own = {"training", "checkpoint", "plan"}, .sections = run_sections(), .input_file = true};
  const auto tool = [](const char* section, std::int64_t arguments) {
    return OptionRules{
        .own = {section}, .sections = {section}, .input_file = true, .max_arguments = arguments};
  };
  return {
      {.name = "prepare",
       .usage = "[INPUT.ini] [FILE | FOLDER ...] --output=FOLDER",
       .summary = "text files to token shards: clean, tokenise, split",
       .rules = {.own = {"prepare", "clean", "tokenizer"},
                 .sections = {"prepare", "clean", "tokenizer"},
                 .input_file = true,
                 .max_arguments = 1 << 20},
       .parallel = true,
       .run = prepare_command},
      {.name = "train",
       .usage = "INPUT.ini [--key=value ...]",
       .summary = "train a model, or continue a run",
       .rules = run,
       .parallel = true,
       .run = train_command},
      {.name = "eval",
       .usage = "CHECKPOINT --dataset=FOLDER",
       .summary = "loss, perplexity and bits per byte on a dataset",
       .rules = tool("evaluate", 1),
       .parallel = true,
       .run = eval_command},
      {.name = "generate",
       .usage = "CHECKPOINT --prompt=TEXT",
       .summary = "continue a text",
       .rules = tool("generate", 1),
       .run = generate_command},
      {.name = "inspect",
       .usage = "PATH",
       .summary = "what a dataset, checkpoint, tokenizer or metrics file holds",
       .rules = {.max_arguments = 1},
       .run = inspect_command},
      {.name = "plan",
       .usage = "INPUT.ini [--ranks=N | --gpus=N]",
       .summary = "memory, work and traffic of a run; the fastest layout for N GPUs",
       .rules = {.own = {"plan", "training"},
                 .sections = run_sections(),
                 .input_file = true,
                 .input_option = "model"},
       .run = plan_command},
      {.name = "verify-layout",
       .usage = "INPUT.ini --layout=\"tp=2,pp=2,ep=2\"",
       .summary = "prove that a layout of the ranks computes what one rank computes",
       .rules = {.own = {"verify", "training"},
                 .sections = run_sections_and("verify"),
                 .input_file = true},
       .parallel = true,
       .run = verify_command},
      {.name = "bench",
       .usage = "INPUT.ini [--kernels] [--output=FILE.json] | --calibrate [--output=FILE.json]",
       .summary =
           "time of a model's training step or kernels; speeds of this machine, for the plan",
       .rules = {.own = {"bench", "training"},
                 .sections = run_sections_and("bench"),
                 .input_file = true},
       .parallel = true,
       .run = bench_command},
      {.name = "export",
       .usage = "CHECKPOINT --output=FOLDER",
       .summary = "a checkpoint to the Hugging Face layout",
       .rules = tool("export", 1),
       .run = export_command},
      {.name = "import",
       .usage = "FOLDER --output=RUN_FOLDER",
       .summary = "a model from the Hugging Face layout",
       .rules = tool("import", 1),
       .run = import_command},
  };
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> table = make_table();
  return table;
}

const Command* find_command(std::string_view name) {
  const auto& all = commands();
  const auto found =
      std::find_if(all.begin(), all.end(), [name](const Command& c) { return c.name == name; });
  return found == all.end() ? nullptr : &*found;
}

std::string only_argument(const Invocation& call, std::string_view what) {
  require(call.options.arguments.size() == 1, "expected one argument: " + std::string{what});
  return call.options.arguments.front();
}

}  // namespace shoal::app
