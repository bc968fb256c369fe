#include "shoal/train/evaluator.hpp"

#include <cmath>
#include <numbers>

#include "shoal/base/error.hpp"

namespace shoal::train {
namespace {

data::EvalLoader make_loader(const EvaluatorConfig& config, const Evaluator::Task& task,
                             const data::DataRank& rank) {
  return {{.sequence = config.seq_len,
           .micro_batch = config.micro_batch,
           .max_sequences = config.max_windows,
           .cross_document = task.model->config().cross_document},
          task.dataset,
          rank};
}

ValidationRow make_row(double loss_sum, double targets, const data::TokenDataset& dataset) {
  const double loss = targets > 0.0 ? loss_sum / targets : std::nan("");
  const auto bytes = static_cast<double>(dataset.text_bytes());
  const double tokens_per_byte =
      bytes > 0.0 ? static_cast<double>(dataset.num_tokens()) / bytes : std::nan("");
  return {.loss = loss,
          .perplexity = std::exp(loss),
          .bits_per_byte = loss * tokens_per_byte / std::numbers::ln2};
}

/// The most that any rank needed; 0 where all rows fitted.
double factor_needed(const Exec& exec, const TensorView& overflow, const Communicator& all) {
  if (overflow.absent()) return 0.0;
  float needed = 0.0F;
  download(exec, &needed, overflow.bytes_begin(), overflow.bytes());
  exec.synchronize();
  return static_cast<double>(all.all_reduce_value(needed, comm::ReduceOp::max));
}

}  // namespace

Evaluator::Evaluator(const Exec& exec, const EvaluatorConfig& config)
    : config_{config},
      block_{exec,
             {.micro_batches = 1, .sequences = config.micro_batch, .seq_len = config.seq_len}},
      loss_sum_{persistent(exec, {1}, DType::f32, MemoryKind::state)} {}

void Evaluator::measure(const Exec& exec, const ForwardChain& model) const {
  expect(exec.is_dry(), "a real evaluation needs a dataset");
  model.add_loss(exec, block_.batch(0), loss_sum_);
}

Evaluation Evaluator::run(const Exec& exec, const Task& task, const EvalRanks& ranks) {
  data::EvalLoader loader = make_loader(config_, task, ranks.data);
  std::array<double, 2> sums{};  // loss, targets
  if (!task.overflow.absent()) zero(exec, task.overflow);
  for (std::int64_t i = 0; i < loader.num_micro_batches(); ++i) {
    const data::BatchView view = loader.micro_batch(i);
    block_.fill(0, 0, view);
    block_.upload(exec, 0);
    zero(exec, loss_sum_);
    task.model->add_loss(exec, block_.batch(0), loss_sum_);
    float loss = 0.0F;
    download(exec, &loss, loss_sum_.bytes_begin(), loss_sum_.bytes());
    exec.synchronize();
    sums[0] += static_cast<double>(loss);
    if (ranks.counts_targets) sums[1] += static_cast<double>(view.targets);
  }
  ranks.all.all_reduce(sums, comm::ReduceOp::sum);
  return {.row = make_row(sums[0], sums[1], *task.dataset),
          .expert_factor_needed = factor_needed(exec, task.overflow, ranks.all)};
}

}  // namespace shoal::train
