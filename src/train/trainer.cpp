#include "train/trainer.hpp"

#include <algorithm>
#include <cmath>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/base/philox.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/train/checkpoint.hpp"
#include "train/agree.hpp"
#include "train/text.hpp"

namespace shoal::train {
namespace {

constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{1} << 28;

std::int64_t seed_of_step(std::int64_t seed, std::int64_t step) {
  const auto block = philox::block(static_cast<std::uint64_t>(seed), philox::Purpose::dropout,
                                   static_cast<std::uint64_t>(step));
  return static_cast<std::int64_t>(philox::bits64(block) >> 1);
}

bool due(std::int64_t interval, std::int64_t step) {
  return interval > 0 && step % interval == 0;
}

}  // namespace

Trainer::Trainer(const TrainerParts& parts)
    : parts_{parts},
      exec_{parts.device, parts.memory},
      state_{exec_, parts_.config, parts_.links},
      step_{exec_, parts_.config, parts_.shape, state_},
      chain_{exec_, chain_parts(exec_, parts_.config, parts_.shape, state_)},
      evaluator_{exec_,
                 {.micro_batch = parts_.shape.micro_batch,
                  .seq_len = parts_.shape.seq_len,
                  .max_windows = parts_.config.eval.max_windows}},
      reader_{parts_.config, parts_.shape, state_.model_state()},
      peak_flops_{peak_flops(parts_.config, parts_.device)} {
  const data::TokenDataset& dataset = *parts_.sources.front().dataset;
  tokenizer_hash_ = dataset.info().tokenizer_hash;
  if (is_root() && !dataset.info().tokenizer_file.empty()) {
    tokenizer_json_ = io::read_file(dataset.tokenizer_path(), kMaxTokenizerBytes);
  }
}

std::string Trainer::start() {
  const RunConfig& config = parts_.config;
  const auto found = choose_checkpoint(config, world());
  std::string text = "fresh start";
  if (found) {
    progress_ = load_checkpoint(exec_, *found, config, state_);
    text = "continues from " + found->string() + " at step " + std::to_string(progress_.step);
  } else {
    state_.initialise(exec_, static_cast<std::uint64_t>(config.training.seed));
    if (!config.checkpoint.init_from.empty()) {
      const auto weights = find_checkpoint(config.checkpoint.init_from);
      load_initial_weights(exec_, weights, config, state_);
      text = "weights of " + weights.string();
    }
  }
  saved_step_ = found ? progress_.step : -1;
  earlier_seconds_ = progress_.seconds;
  make_loader();
  evaluated_step_ = std::stoll(on_root(world(), [this] {
    open_metrics();
    return std::to_string(metrics_->last_validation());
  }));
  return text;
}

void Trainer::make_loader() {
  const RunConfig& config = parts_.config;
  loader_.emplace(data::LoaderConfig{.seed = static_cast<std::uint64_t>(config.training.seed),
                                     .sequence = config.training.seq_len,
                                     .global_batch = config.training.global_batch_size,
                                     .micro_batch = parts_.shape.micro_batch,
                                     .cross_document = config.model.cross_document},
                  parts_.sources,
                  data::DataRank{.index = groups().dp_rank(), .count = groups().dp_size()},
                  progress_.ledger);
  progress_.ledger = loader_->ledger();  // a run may stop before its first step
}

void Trainer::open_metrics() {
  const RunConfig& config = parts_.config;
  metrics_.emplace(MetricsWriter::Options{.run_dir = config.training.run_dir,
                                          .router = reader_.router_shape(),
                                          .rebuild_seconds = config.metrics.rebuild_seconds,
                                          .sync_seconds = config.metrics.sync_seconds},
                   progress_.step);
  io::write_file_atomically(std::filesystem::path{config.training.run_dir} / "config.ini",
                            config.effective_text);
}

void Trainer::launch() {
  const RunConfig& config = parts_.config;
  const std::int64_t step = progress_.step;
  Pending pending{.step = step + 1,
                  .lr = optim::learning_rate(config.optim, step, config.training.steps),
                  .started_s = clock_.seconds()};
  const data::StepBatch& batch = loader_->next();
  pending.targets = groups().dp().all_reduce_value(batch.targets(), comm::ReduceOp::sum);
  pending.seconds_data = clock_.seconds() - pending.started_s;
  add_time(Phase::data, pending.seconds_data);
  const double mu = optim::momentum(config.optim, step);
  step_.enqueue(exec_, {.batch = &batch,
                        .targets = pending.targets,
                        .scalars = {.lr = static_cast<float>(pending.lr),
                                    .mu = static_cast<float>(mu),
                                    .seed = seed_of_step(config.training.seed, step)}});
  progress_.step = step + 1;
  progress_.ledger = batch.ledger_after();
  pending_.push_back(pending);
}

void Trainer::consume() {
  const StepResult result = step_.next_result();
  const Pending done = pending_.front();
  pending_.pop_front();
  const double until = pending_.empty() ? clock_.seconds() : pending_.front().started_s;
  step_seconds_ = until - done.started_s;
  add_time(Phase::step, step_seconds_ - done.seconds_data);
  too_many_skips_ =
      too_many_skips_ || result.state.skips_in_a_row >= parts_.config.optim.max_skips_in_a_row;
  note_overflow(result);
  if (is_root()) record(done, result);
}

/// Experts got more rows than parallel.ep_buffer_factor allows: the step was skipped everywhere.
void Trainer::note_overflow(const StepResult& result) {
  if (state_.overflow().absent()) return;
  const float needed = world().all_reduce_value(result.overflow, comm::ReduceOp::max);
  expert_factor_needed_ = std::max(expert_factor_needed_, static_cast<double>(needed));
}

void Trainer::flush() {
  while (!pending_.empty()) consume();
}

StepRow Trainer::make_row(const Pending& done, const StepResult& result,
                          const ResultReader::Numbers& numbers) {
  const RunConfig& config = parts_.config;
  const auto tokens = static_cast<double>(config.training.global_batch_size) *
                      static_cast<double>(config.training.seq_len);
  const double per_second = step_seconds_ > 0.0 ? tokens / step_seconds_ : 0.0;
  const double peak = peak_flops_ * world().size();
  StepRow row{.step = done.step};
  row[Column::loss] = numbers.loss;
  row[Column::aux_loss] = numbers.aux_loss;
  row[Column::z_loss] = numbers.z_loss;
  row[Column::grad_norm] = static_cast<double>(result.state.grad_norm);
  row[Column::lr] = done.lr;
  row[Column::tokens] = tokens * static_cast<double>(done.step);
  row[Column::tokens_per_second] = per_second;
  row[Column::mfu] = peak > 0.0 ? per_second * parts_.flops_per_token / peak : 0.0;
  row[Column::loss_scale] = static_cast<double>(result.state.loss_scale);
  row[Column::skipped] = static_cast<double>(result.state.skip);
  row[Column::seconds_step] = step_seconds_;
  row[Column::seconds_data] = done.seconds_data;
  row[Column::seconds_reduce] = result.seconds_reduce;
  row[Column::reduced_early] = result.reduced_early;
  row[Column::seconds_evaluate] = std::exchange(evaluate_seconds_, 0.0);
  row[Column::seconds_checkpoint] = std::exchange(checkpoint_seconds_, 0.0);
  return row;
}

void Trainer::record(const Pending& done, const StepResult& result) {
  const RunConfig& config = parts_.config;
  const ResultReader::Numbers numbers = reader_.numbers(result, done.targets);
  const StepRow row = make_row(done, result, numbers);
  if (reader_.router_shape().layers > 0 && due(config.metrics.router_interval, done.step)) {
    RouterRow router = reader_.router_row(result);
    router.step = done.step;
    metrics_->add(router);
  }
  metrics_->add(row);
  constexpr double kSmooth = 0.1;
  mean_seconds_ = mean_seconds_ == 0.0 ? step_seconds_
                                       : mean_seconds_ + kSmooth * (step_seconds_ - mean_seconds_);
  const auto left = static_cast<double>(config.training.steps - done.step);
  log::info(step_text(row, {.total = config.training.steps,
                            .imbalance = numbers.imbalance,
                            .eta_s = left * mean_seconds_}));
}

void Trainer::evaluate() {
  if (!parts_.validation || evaluated_step_ == progress_.step) return;
  const Stopwatch clock;
  Evaluation found = evaluator_.run(
      exec_, {.model = &chain_, .dataset = parts_.validation, .overflow = state_.overflow()},
      {.all = world(),
       .data = {.index = groups().dp_rank(), .count = groups().dp_size()},
       .counts_targets = groups().tp().is_root() && groups().pp().is_root()});
  evaluate_seconds_ += clock.seconds();
  add_time(Phase::evaluate, clock.seconds());
  expert_factor_needed_ = std::max(expert_factor_needed_, found.expert_factor_needed);
  if (found.expert_factor_needed > 0.0) return;
  found.row.step = evaluated_step_ = progress_.step;
  if (!is_root()) return;
  metrics_->add(found.row);
  log::info(validation_text(found.row));
}

void Trainer::checkpoint() {
  if (saved_step_ == progress_.step) return;
  const Stopwatch clock;
  progress_.seconds = earlier_seconds_ + clock_.seconds();
  exec_.synchronize();
  (void)on_root(world(), [this]() -> std::string {
    metrics_->sync();
    return "";
  });
  save_checkpoint(exec_, {.config = &parts_.config,
                          .state = &state_,
                          .progress = &progress_,
                          .groups = parts_.links.groups,
                          .tokenizer_hash = tokenizer_hash_,
                          .tokenizer_json = tokenizer_json_});
  saved_step_ = progress_.step;
  checkpoint_seconds_ += clock.seconds();
  add_time(Phase::checkpoint, clock.seconds());
  if (is_root()) {
    log::info("checkpoint of step " + std::to_string(progress_.step) + " written in " +
              fixed(clock.seconds(), 2) + " s");
  }
}

void Trainer::after_step() {
  const RunConfig& config = parts_.config;
  const bool evaluation = due(config.eval.interval, progress_.step);
  const bool save = due(config.checkpoint.interval, progress_.step);
  if (step_.pending() == BatchBlock::kSlots) consume();
  if (!evaluation && !save) return;
  flush();
  if (too_many_skips_) return;
  if (evaluation) evaluate();
  if (save) checkpoint();
}

ExitCode Trainer::run(const StopCondition& stop) {
  StopReason reason = StopReason::none;
  // Left over from a run whose evaluation was refused.
  if (progress_.step > 0 && due(parts_.config.eval.interval, progress_.step)) evaluate();
  while (progress_.step < parts_.config.training.steps && !must_end()) {
    reason = stop.agree(world(), step_seconds_);
    if (reason != StopReason::none) break;
    launch();
    after_step();
  }
  flush();
  return finish(reason);
}

ExitCode Trainer::finish(StopReason reason) {
  if (too_many_skips_) {
    if (is_root()) metrics_->rebuild();
    log::error("the last " + std::to_string(parts_.config.optim.max_skips_in_a_row) +
               " steps were skipped: their gradient norm was not finite; the run cannot go on "
               "(lower optim.lr, or look at the data)");
    return ExitCode::do_not_restart;
  }
  if (reason == StopReason::none && !must_end()) evaluate();
  checkpoint();
  if (is_root()) {
    metrics_->sync();
    metrics_->rebuild();
  }
  if (expert_factor_needed_ > 0.0) {
    log::error(
        "experts got more rows than their buffers hold, no step or evaluation counts with it: "
        "continue with parallel.ep_buffer_factor of at least " +
        fixed(std::ceil(100.0 * expert_factor_needed_) / 100.0, 2) + ", or 0 for the worst case");
    return ExitCode::can_continue;
  }
  if (reason == StopReason::none) return ExitCode::finished;
  log::info("stopped at step " + std::to_string(progress_.step) + ": " + describe(reason));
  return ExitCode::can_continue;
}

Accounting Trainer::accounting() const {
  Accounting a = accounting_;
  a.waits = world().journal()->waits().describe();
  return a;
}

}  // namespace shoal::train
