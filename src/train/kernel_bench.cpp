#include "train/kernel_bench.hpp"

#include "train/host_place.hpp"
#include "train/kernel_timer.hpp"
#include "train/random_batches.hpp"

namespace shoal::train {
namespace {

/// One micro-batch of one rank.
RunConfig one_micro_batch(RunConfig config) {
  config.training.micro_batch_size = batch_shape(config.training, 1).micro_batch;
  config.training.global_batch_size = config.training.micro_batch_size;
  return config;
}

void time_all(KernelBench& bench, const nn::ModelConfig& model) {
  bench.dense();
  if (model.num_experts > 1) {
    bench.experts();
    bench.moe_layer();
    bench.router();
  }
  bench.attention();
  bench.head_norm();
  bench.norm();
  bench.loss_head();
  bench.optimizer();
}

}  // namespace

KernelBench::KernelBench(const Exec& exec, const RunConfig& config)
    : exec_{exec},
      config_{config},
      elem_{parse_precision(config.training.precision)},
      shape_{batch_shape(config.training, 1)},
      block_{exec,
             {.micro_batches = 1, .sequences = shape_.micro_batch, .seq_len = shape_.seq_len}} {
  if (config_.model.num_experts > 1) moe_ = std::make_unique<RandomMoe>(exec_, config_);
  if (exec.is_dry()) return;
  RandomBatches batches{config_, shape_, {}};
  block_.fill(0, 0, batches.next().micro_batch(0));
  block_.upload(exec_, 0);
}

void KernelBench::time(const std::string& kernel, const io::Json& shape, const Work& work,
                       const std::function<void()>& body) {
  if (exec_.is_dry()) return body();
  figures_.push_back({.kernel = kernel,
                      .shape = shape,
                      .seconds = median_time_of(exec_, body),
                      .flops = work.flops,
                      .bytes = work.bytes,
                      .parameters = work.parameters});
}

TensorView KernelBench::random(const Shape& shape, DType dtype, float std) {
  constexpr std::uint64_t kSeed = 1;
  const TensorView x = scratch(exec_, shape, dtype);
  ops::fill_normal(exec_, {.y = x, .seed = kSeed, .stream = ++streams_, .std = std});
  return x;
}

TensorView KernelBench::ones(const Shape& shape) const {
  const TensorView x = scratch(exec_, shape, DType::f32);
  ops::fill(exec_, x, 1.0F);
  return x;
}

KernelBenchmark benchmark_kernels(const RunConfig& wanted, const Communicator& world) {
  const RunConfig config = one_micro_batch(wanted);
  take_place(config.training, world);
  const DeviceKind device = choose_device(config.training.device);
  const Exec dry = Exec::dry(device);
  KernelBench counting{dry, config};
  time_all(counting, config.model);
  KernelBenchmark result{.ceilings = measure_ceilings(device, config.training.precision),
                         .figures = {}};
  require_device_memory(device, dry.arena().plan());
  const Exec exec{device, dry.arena().plan()};
  KernelBench bench{exec, config};
  time_all(bench, config.model);
  result.figures = bench.figures();
  return result;
}

}  // namespace shoal::train
