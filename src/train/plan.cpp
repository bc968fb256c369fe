#include "shoal/train/plan.hpp"

#include <cstdio>
#include <string>

#include "shoal/base/error.hpp"
#include "shoal/data/token_dataset.hpp"
#include "shoal/train/evaluator.hpp"
#include "shoal/train/step.hpp"
#include "train/measure.hpp"
#include "train/text.hpp"

namespace shoal::train {
namespace {

/// Weights and every state of the whole model as a checkpoint stores them: f32 weights, states as
/// they are.
std::int64_t checkpoint_bytes(const nn::ParameterLayout& layout, const RunConfig& config) {
  std::int64_t width = size_of(DType::f32);
  const optim::StateTypes types = optim::state_types(config.optim);
  for (const auto& type : {types.m, types.v, types.u}) width += type ? size_of(*type) : 0;
  return (layout.elem_count() + layout.f32_count()) * width;
}

std::string line(const char* label, const std::string& value) {
  std::string text = "  " + std::string{label};
  text.resize(std::max<std::size_t>(text.size() + 1, 28), ' ');
  return text + value + "\n";
}

}  // namespace

Measured measure(const RunConfig& config, const BatchShape& shape, DeviceKind device,
                 const parallel::ProcessGroups& groups) {
  const Exec exec = Exec::dry(device);
  const comm::CollectivesFactory factory{groups.world(), device};
  const TrainState state{exec, config, {.groups = &groups, .factory = &factory}};
  TrainStep step{exec, config, shape, state};
  const Evaluator evaluator{exec, {.micro_batch = shape.micro_batch, .seq_len = shape.seq_len}};
  step.measure(exec);
  evaluator.measure(exec, ForwardChain{exec, chain_parts(exec, config, shape, state)});
  const parallel::ReduceTraffic traffic =
      parallel::reduce_traffic(state.optimizer().plan(), parallel::reduce_options(config.parallel),
                               state.store().elem_dtype());
  return {.memory = exec.arena().plan(), .sent_bytes = traffic.sent};
}

PlanReport plan(const RunConfig& config, int ranks, int rank) {
  require(config.model.vocab_size > 0,
          "model.vocab_size = 0: give it, or data.train to take it from");
  require_vocab_split(config);
  const auto groups = parallel::ProcessGroups::on_paper(config.parallel, ranks, rank);
  const parallel::Layout& layout = groups.layout();
  const BatchShape shape = batch_shape(config.training, layout.dense.size("dp"));
  const DeviceKind device =
      config.training.device == "cuda" ? DeviceKind::cuda : choose_device(config.training.device);
  const Measured measured = measure(config, shape, device, groups);
  const nn::RankLayout whole = nn::make_layout(config.model, nn::whole_model(config.model));
  const nn::ModelSize size = nn::model_size(config.model, config.training.seq_len);
  return {.layout = layout.dense.describe(),
          .batch = shape,
          .size = size,
          .memory = measured.memory,
          .flops_per_token = 3.0 * size.forward_flops_per_token,
          .tokens_per_step = config.training.global_batch_size * config.training.seq_len,
          .wire_bytes_per_step = static_cast<std::int64_t>(measured.sent_bytes),
          .checkpoint_bytes = checkpoint_bytes(whole.parameters, config)};
}

std::string PlanReport::text() const {
  std::string text = "plan\n";
  text += line("layout", layout);
  text += line("parameters",
               count_text(size.total) + " total, " + count_text(size.active) + " active per token");
  text +=
      line("step", std::to_string(tokens_per_step) + " tokens; each rank " +
                       std::to_string(batch.micro_batches) + " x " +
                       std::to_string(batch.micro_batch) + " x " + std::to_string(batch.seq_len));
  text += line("FLOPs a token", si_text(flops_per_token));
  text += line("sent a step, each rank", bytes_text(wire_bytes_per_step));
  text += line("checkpoint", bytes_text(checkpoint_bytes) + " before compression");
  text += "  memory of each rank\n";
  for (int k = 0; k < kMemoryKinds; ++k) {
    const std::int64_t bytes = memory.by_kind[static_cast<std::size_t>(k)];
    if (bytes > 0) {
      text +=
          line(("  " + std::string{name(static_cast<MemoryKind>(k))}).c_str(), bytes_text(bytes));
    }
  }
  text += line("  saved activations", bytes_text(memory.saved_total()));
  text += line("  scratch", bytes_text(memory.scratch));
  return text + line("  total", bytes_text(memory.total()) + " (" + std::to_string(memory.total()) +
                                    " bytes)");
}

void resolve_vocab(RunConfig& config) {
  for (const SourceName& source : parse_blend(config.data.train)) {
    const data::TokenDataset dataset{source.folder};
    const std::int64_t vocab = dataset.info().vocab_size;
    if (config.model.vocab_size == 0) config.model.vocab_size = vocab;
    dataset.require_compatible(config.model.vocab_size, "");
  }
}

void require_vocab_split(const RunConfig& config) {
  const std::int64_t vocab = config.model.vocab_size, tp = config.parallel.tp;
  require(vocab % tp == 0, "model.vocab_size = " + std::to_string(vocab) +
                               ": parallel.tp = " + std::to_string(tp) +
                               " must divide it; model.vocab_size may be larger than that of the "
                               "dataset, e.g. " +
                               std::to_string((vocab / tp + 1) * tp));
}

}  // namespace shoal::train
