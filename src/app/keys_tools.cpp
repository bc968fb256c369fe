#include "app/keys.hpp"

namespace shoal::app {
namespace {

void add_plan_keys(KeyTable& table, PlanConfig& c) {
  table.section("plan", "`shoal plan` and `shoal train --dry-run`.");
  table.add("dry_run", c.dry_run, "train: check the configuration, print the plan, stop");
  table.add("ranks", c.ranks, "number of ranks to plan for; 0: those of this job");
  table.add("gpus", c.gpus, "search the fastest layout for so many GPUs; 0: plan the one given");
  table.add("gpus_per_node", c.gpus_per_node, "GPUs that share a node's fast links");
  table.add("calibration", c.calibration,
            "file of `shoal bench --calibrate`; empty: published figures of H100 or H200");
  table.add("memory_gb", c.memory_gb, "memory of one GPU, 10^9 bytes");
  table.add("write_sbatch", c.write_sbatch, "write a job script for the best layout to this file");
  table.add("schedule_picture", c.schedule_picture,
            "write the pipeline's timeline to this file, .png or .txt");
}

void add_verify_keys(KeyTable& table, VerifyConfig& c) {
  table.section("verify", "`shoal verify-layout`.");
  table.add("layout", c.layout,
            "\"tp=2,pp=2,ep=2\": keys of [parallel], over those of the input; dp takes the rest");
  table.add("tolerance", c.tolerance,
            "largest norm-relative deviation of a gradient; 0: by precision (fp32: 1e-5)");
  table.add("fault", c.fault,
            "plant one to see it found: none | skip_reduction | double_gradient | swap_experts | "
            "aux_scale");
}

void add_bench_keys(KeyTable& table, BenchConfig& c) {
  table.section("bench", "`shoal bench`.");
  table.add("calibrate", c.calibrate, "time the ops of a step and the links between these ranks");
  table.add("kernels", c.kernels, "time the kernels of the model of the input file, not its step");
  table.add("steps", c.steps, "timed steps");
  table.add("warmup", c.warmup, "steps before the timed ones, 1 or more");
  table.add("output", c.output, "JSON file; empty: calibration.json of calibrate, otherwise none");
  table.add("device", c.device, "auto (that of the input file) | cpu | cuda");
  table.add("precision", c.precision,
            "auto (that of the input file; calibrate: bf16 on a GPU, fp32 on the CPU) | fp32 | "
            "bf16 | fp16");
}

void add_evaluate_keys(KeyTable& table, EvaluateConfig& c) {
  table.section("evaluate", "`shoal eval CHECKPOINT`.");
  table.add("dataset", c.dataset, "dataset folder made by `shoal prepare`");
  table.add("seq_len", c.seq_len, "tokens of a window; 0: as in training");
  table.add("batch_size", c.batch_size, "windows in one pass");
  table.add("max_windows", c.max_windows, "0: the whole dataset");
  table.add("precision", c.precision, "fp32 | bf16 | fp16");
  table.add("device", c.device, "auto | cpu | cuda");
}

void add_generate_keys(KeyTable& table, GenerateConfig& c) {
  table.section("generate", "`shoal generate CHECKPOINT`.");
  table.add("prompt", c.prompt, "text to continue; `-`: from standard input");
  table.add("max_tokens", c.max_tokens, "tokens to generate at most");
  table.add("temperature", c.sampling.temperature, "0: always the most likely token");
  table.add("top_k", c.sampling.top_k, "keep the k most likely tokens; 0: all");
  table.add("top_p", c.sampling.top_p, "keep the smallest set with this probability, 0 to 1");
  table.add("seed", c.sampling.seed, "of the drawn tokens");
  table.add("print_logits", c.print_logits,
            "print the logits of the first new token as a JSON list instead of text");
  table.add("tokenizer", c.tokenizer, "tokenizer.json; empty: the checkpoint's own");
  table.add("precision", c.precision, "fp32 | bf16 | fp16");
  table.add("device", c.device, "auto | cpu | cuda");
}

void add_exchange_keys(KeyTable& table, Config& config) {
  auto& e = config.export_;
  table.section("export", "`shoal export CHECKPOINT`: to the Hugging Face layout.");
  table.add("format", e.format, "safetensors");
  table.add("output", e.output, "folder to create");
  table.add("dtype", e.dtype, "of the tensors: f32 | bf16 | f16");
  table.add("shard_mb", e.shard_mb, "size of one safetensors file, MB");
  table.add("tokenizer", e.tokenizer, "tokenizer.json; empty: the checkpoint's own");

  auto& i = config.import_;
  table.section("import", "`shoal import FOLDER`: from the Hugging Face layout.");
  table.add("output", i.output, "run folder to create: tokenizer.json and step-00000000");
}

}  // namespace

void add_tool_keys(KeyTable& table, Config& config) {
  add_plan_keys(table, config.plan);
  add_bench_keys(table, config.bench);
  add_verify_keys(table, config.verify);
  add_evaluate_keys(table, config.evaluate);
  add_generate_keys(table, config.generate);
  add_exchange_keys(table, config);
}

}  // namespace shoal::app
