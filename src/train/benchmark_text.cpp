#include <algorithm>

#include "shoal/train/kernel_benchmark.hpp"
#include "train/text.hpp"

namespace shoal::train {
namespace {

std::string line(const std::string& label, const std::string& value) {
  std::string text = "  " + label;
  text.resize(std::max<std::size_t>(text.size() + 1, 28), ' ');
  return text + value + "\n";
}

std::string percent(double share) {
  return fixed(100.0 * share, 1) + " %";
}

/// Memory by what it is for, in the order of the report.
struct Part {
  const char* name;
  std::int64_t bytes;
};
std::vector<Part> memory_parts(const ArenaPlan& memory) {
  const auto kind = [&](MemoryKind k) { return memory.by_kind[static_cast<std::size_t>(k)]; };
  return {{"parameters", kind(MemoryKind::weights)},
          {"gradients", kind(MemoryKind::gradients)},
          {"optimizer", kind(MemoryKind::optimizer)},
          {"activations", memory.saved_total()},
          {"workspace", memory.scratch},
          {"other", kind(MemoryKind::state) + kind(MemoryKind::batch) + kind(MemoryKind::cache)}};
}

}  // namespace

io::Json to_json(const Ceilings& c) {
  return {{"device", c.device},     {"precision", c.precision},
          {"product", c.product},   {"product_flops_per_s", c.flops_per_s},
          {"copy_bytes", c.copied}, {"copy_bytes_per_s", c.bytes_per_s}};
}

io::Json to_json(const StepBenchmark& r) {
  io::Json memory;
  for (const Part& part : memory_parts(r.memory)) memory[part.name] = part.bytes;
  memory["total"] = r.memory.total();
  memory["device"] = r.device_bytes;
  memory["device_used"] = r.device_used;
  return {{"case", "step"},
          {"ceilings", to_json(r.ceilings)},
          {"layout", r.layout},
          {"ranks", r.ranks},
          {"micro_batches", r.batch.micro_batches},
          {"micro_batch", r.batch.micro_batch},
          {"seq_len", r.batch.seq_len},
          {"parameters", r.size.total},
          {"active_parameters", r.size.active},
          {"tokens", r.tokens},
          {"flops", r.flops},
          {"cuda_graph", r.cuda_graph},
          {"seconds", r.median_s()},
          {"all_seconds", r.seconds},
          {"tokens_per_s", static_cast<double>(r.tokens) / r.median_s()},
          {"flops_per_s", r.flops_per_s()},
          {"share_of_product", r.flops_per_s() / r.ceilings.flops_per_s},
          {"losses", r.losses},
          {"imbalance", r.imbalance},
          {"memory_bytes", memory}};
}

std::string benchmark_text(const Ceilings& c) {
  return "ceilings of " + c.device + "\n" +
         line("product", si_text(c.flops_per_s) + "FLOP/s, " + c.precision + ", " +
                             std::to_string(c.product) + " cubed") +
         line("copy", si_text(c.bytes_per_s) + "B/s, " + bytes_text(c.copied));
}

io::Json to_json(const KernelBenchmark& r) {
  io::Json kernels = io::Json::array();
  for (const KernelFigure& f : r.figures) {
    kernels.push_back({{"case", f.kernel},
                       {"shape", f.shape},
                       {"seconds", f.seconds},
                       {"flops", f.flops},
                       {"bytes", f.bytes},
                       {"parameters", f.parameters},
                       {"share_of_product", f.flops / f.seconds / r.ceilings.flops_per_s},
                       {"share_of_copy", f.bytes / f.seconds / r.ceilings.bytes_per_s}});
  }
  return {{"ceilings", to_json(r.ceilings)}, {"kernels", kernels}};
}

std::string benchmark_text(const KernelBenchmark& r) {
  std::string text = benchmark_text(r.ceilings) + "kernels on random values\n";
  for (const KernelFigure& f : r.figures) {
    std::string name = f.kernel;
    for (const auto& [letter, size] : f.shape.items()) name += " " + letter + size.dump();
    name.resize(std::max<std::size_t>(name.size() + 1, 50), ' ');
    std::string value = fixed(1e3 * f.seconds, 4) + " ms";
    if (f.flops > 0.0) {
      value += ", " + si_text(f.flops / f.seconds) + "FLOP/s, " +
               percent(f.flops / f.seconds / r.ceilings.flops_per_s) + " of the product";
    }
    if (f.bytes > 0.0) {
      value += ", " + si_text(f.bytes / f.seconds) + "B/s, " +
               percent(f.bytes / f.seconds / r.ceilings.bytes_per_s) + " of the copy";
    }
    if (f.parameters > 0.0) {
      value += ", " + fixed(1e3 * f.seconds / f.parameters * 1e9, 2) + " ms for 10^9 parameters";
    }
    text += "  " + name + value + "\n";
  }
  text.pop_back();
  return text;
}

std::string benchmark_text(const StepBenchmark& r) {
  const auto [least, most] = std::minmax_element(r.seconds.begin(), r.seconds.end());
  std::string text = benchmark_text(r.ceilings) + "training step on random tokens\n";
  text += line("parameters", count_text(r.size.total) + " total, " + count_text(r.size.active) +
                                 " active per token");
  text += line("ranks", std::to_string(r.ranks) + " (" + r.layout + ")");
  text += line("batch of each rank", std::to_string(r.batch.micro_batches) + " x " +
                                         std::to_string(r.batch.micro_batch) + " x " +
                                         std::to_string(r.batch.seq_len) + " tokens");
  text +=
      line("step", fixed(1e3 * r.median_s(), 2) + " ms (median of " +
                       std::to_string(r.seconds.size()) + "; " + fixed(1e3 * *least, 2) + " to " +
                       fixed(1e3 * *most, 2) + ")" + (r.cuda_graph ? ", as one CUDA graph" : ""));
  text += line("tokens/s", fixed(static_cast<double>(r.tokens) / r.median_s(), 0));
  text += line("model speed", si_text(r.flops_per_s()) + "FLOP/s a device, " +
                                  percent(r.flops_per_s() / r.ceilings.flops_per_s) +
                                  " of the product (causal FLOPs, active parameters)");
  text += line("loss", fixed(r.losses.front(), 4) + " to " + fixed(r.losses.back(), 4));
  text += line("busiest expert", fixed(r.imbalance, 2) + " times the mean");
  text += "memory of a rank\n";
  for (const Part& part : memory_parts(r.memory)) text += line(part.name, bytes_text(part.bytes));
  text += line("total", bytes_text(r.memory.total()));
  if (r.device_used > 0) {
    text += line("by the device's figure",
                 bytes_text(r.device_bytes) + "; in use in all " + bytes_text(r.device_used));
  }
  text.pop_back();
  return text;
}

}  // namespace shoal::train
