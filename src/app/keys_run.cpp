#include "app/keys.hpp"

namespace shoal::app {
namespace {

void add_data_keys(KeyTable& table, train::DataConfig& c) {
  table.section("data", "What a run reads.");
  table.add("train", c.train,
            "dataset folder made by `shoal prepare`; or a blend \"a:0.7, b:0.3\"");
  table.add("validation", c.validation, "dataset folder; empty: no validation");
}

void add_optimizer_keys(KeyTable& table, optim::OptimizerConfig& c) {
  table.section("optim", "How parameters are updated.");
  table.add("kind", c.kind, "amf | amf-classic | amf-nesterov | adamw | sgd");
  table.add("lr", c.lr, "peak learning rate; means what it means in AdamW");
  table.add("beta1", c.beta1, "decay of the first moment m");
  table.add("beta2", c.beta2, "decay of the second moment v");
  table.add("eps", c.eps, "added to sqrt(v)");
  table.add("nu", c.nu, "amf: share of the momentum u, 0 to 1; 0 is AdamW bit for bit");
  table.add("mu_start", c.mu_start,
            "decay of u at the start; of amf-classic, amf-nesterov and sgd throughout");
  table.add("mu_end", c.mu_end, "amf: decay of u from the end of the warm-up on");
  table.add("weight_decay", c.weight_decay, "decoupled; not for norms, biases and gates");
  table.add("clip_norm", c.clip_norm, "the global gradient norm is clipped to this; 0: never");
  table.add("schedule", c.schedule, "constant | cosine | wsd (warm-up, stable, decay)");
  table.add("warmup_steps", c.warmup_steps, "steps of linear rise to lr");
  table.add("min_lr_ratio", c.min_lr_ratio, "cosine and wsd end at this share of lr");
  table.add("decay_share", c.decay_share, "wsd: share of all steps in the final decay");
  table.add("state_dtype", c.state_dtype, "m and u: f32 | bf16 (stochastic rounding)");
  table.add("initial_loss_scale", c.initial_loss_scale, "fp16 only");
  table.add("loss_scale_interval", c.loss_scale_interval,
            "fp16: good steps before the scale doubles");
  table.add("max_skips_in_a_row", c.max_skips_in_a_row, "as many end the run with exit 93");
}

void add_parallel_keys(KeyTable& table, parallel::ParallelConfig& c) {
  table.section("parallel",
                "How ranks share one model; data parallelism takes the ranks that are left.");
  table.add("tp", c.tp, "tensor parallel ranks");
  table.add("pp", c.pp, "pipeline stages");
  table.add("cp", c.cp, "context parallel ranks; must be 1 in this version");
  table.add("ep", c.ep, "expert parallel ranks, out of dp x tp");
  table.add("schedule", c.schedule, "gpipe | 1f1b | interleaved | zb-h1 | zbv");
  table.add("chunks", c.chunks, "model chunks a rank (interleaved: at least 2; zbv: 2)");
  table.add("stages", c.stages, "layers of each chunk in model order, e.g. 3,2,3; empty: balanced");
  table.add("zero", c.zero, "shard optimizer states over the replicas of each parameter");
  table.add("grad_reduce", c.grad_reduce, "fp32 | bf16: dtype of gradients on the wire");
  table.add("overlap", c.overlap,
            "reduce gradients while the backward pass goes on; changes no bits");
  table.add("overlap_nccl", c.overlap_nccl,
            "the same through NCCL, on a stream of its own; off: not yet run on several GPUs");
  table.add("bucket_elements", c.bucket_elements,
            "gradients that one collective reduces; a few such buckets take memory");
  table.add("comm", c.comm, "auto (NCCL where every rank has a GPU) | nccl | mpi");
  table.add("ep_buffer_factor", c.ep_buffer_factor,
            "rows that an expert rank can take, in even shares; 0: the worst case");
  table.add("timeout_s", c.timeout_s,
            "a rank that waits longer in one collective is taken for lost");
}

void add_training_keys(KeyTable& table, train::TrainingConfig& c) {
  table.section("training", "How long, in which precision and where.");
  table.add("seq_len", c.seq_len, "tokens of one sequence");
  table.add("global_batch_size", c.global_batch_size, "sequences of one step, over all ranks");
  table.add("steps", c.steps, "optimizer steps of the whole run");
  table.add("precision", c.precision, "fp32 | bf16 | fp16 (with a dynamic loss scale)");
  table.add("seed", c.seed, "of initial weights, data order and dropout");
  table.add("micro_batch_size", c.micro_batch_size,
            "sequences of a rank in one pass; 0: its whole share");
  table.add("device", c.device, "auto | cpu | cuda");
  table.add("cuda_graph", c.cuda_graph,
            "launch a step as one CUDA graph where no host takes part; false: kernel by kernel");
  table.add("threads", c.threads, "CPU threads a rank; 0: cores / ranks on the node");
  table.add("max_hours", c.max_hours, "stop with a checkpoint after this time; 0: no limit");
  table.add("run_dir", c.run_dir, "folder of checkpoints, metrics and the configuration");
}

void add_compute_keys(KeyTable& table, nn::ComputeConfig& c) {
  table.section("compute", "How the model is computed: speed and memory, not the numbers.");
  table.add("recompute_attention", c.recompute_attention,
            "activations of attention made again: none | selective | full");
  table.add("recompute_mlp", c.recompute_mlp,
            "activations of MLP or experts made again: none | selective | full");
  table.add("loss_chunk", c.loss_chunk, "tokens whose logits are in memory at once");
}

void add_report_keys(KeyTable& table, train::RunConfig& c) {
  table.section("eval", "Validation during a run.");
  table.add("interval", c.eval.interval, "steps between evaluations; 0: at the end only");
  table.add("max_windows", c.eval.max_windows,
            "windows of seq_len tokens; 0: the whole validation set");

  table.section("checkpoint", "What a run keeps, and from where it starts.");
  table.add("interval", c.checkpoint.interval, "steps between checkpoints; 0: at the end only");
  table.add("keep_last", c.checkpoint.keep_last, "older ones are removed; 0: all are kept");
  table.add("deflate_level", c.checkpoint.deflate_level, "0 (none) to 9");
  table.add("restart", c.checkpoint.restart,
            "auto (the newest good checkpoint in run_dir) | none | a checkpoint");
  table.add("init_from", c.checkpoint.init_from,
            "take only the weights of this checkpoint; empty: random start");

  table.section("metrics", "What a run writes to metrics.h5.");
  table.add("router_interval", c.metrics.router_interval,
            "steps between rows of the router ledger; 0: none");
  table.add("rebuild_seconds", c.metrics.rebuild_seconds,
            "metrics.h5 is rewritten at most this often");
  table.add("sync_seconds", c.metrics.sync_seconds,
            "the journal is forced to disk at least this often");
  table.add("peak_tflops", c.metrics.peak_tflops,
            "of one device, for the utilisation; 0: known devices, else none");
}

}  // namespace

void add_run_keys(KeyTable& table, train::RunConfig& config) {
  add_compute_keys(table, config.compute);
  add_data_keys(table, config.data);
  add_optimizer_keys(table, config.optim);
  add_parallel_keys(table, config.parallel);
  add_training_keys(table, config.training);
  add_report_keys(table, config);
}

}  // namespace shoal::app
