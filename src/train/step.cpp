#include "shoal/train/step.hpp"

#include <algorithm>
#include <cstring>

#include "shoal/base/clock.hpp"
#include "shoal/base/error.hpp"
#include "shoal/ops/step_scale.hpp"

namespace shoal::train {
namespace {

constexpr std::int64_t kFactors = 4;
constexpr auto kFactorBytes = kFactors * static_cast<std::int64_t>(sizeof(float));
constexpr auto kInputBytes = static_cast<std::int64_t>(sizeof(optim::StepInputs));
constexpr auto kStateBytes = static_cast<std::int64_t>(sizeof(ops::StepState));

template <class T>
std::vector<T> copy_of(const HostBuffer& buffer) {
  const auto n = static_cast<std::size_t>(buffer.bytes()) / sizeof(T);
  return n == 0 ? std::vector<T>{} : std::vector<T>(buffer.as<T>(), buffer.as<T>() + n);
}

/// Of the balance biases of all layers.
std::int64_t bias_bytes(const nn::ModelState& state) {
  return state.bias_block.absent() ? 0 : state.bias_block.bytes();
}

pipeline::ModelVerbs verbs_of(const RunConfig& config, const BatchShape& shape,
                              const TrainState& state) {
  pipeline::ModelVerbs::Parts parts;
  for (const nn::Model& chunk : state.chunks()) parts.chunks.push_back(&chunk);
  const pipeline::ScheduleShape schedule = schedule_shape(config.parallel, shape.micro_batches);
  const parallel::ProcessGroups& groups = *state.links().groups;
  const auto actions = pipeline::make_schedule(schedule, groups.pp().rank());
  parts.slots = pipeline::assign_slots(actions, schedule).count;
  parts.tokens = shape.micro_batch * shape.seq_len / groups.tp().size();
  parts.micro_batches = static_cast<int>(shape.micro_batches);
  return pipeline::ModelVerbs{parts};
}

}  // namespace

TrainStep::TrainStep(const Exec& exec, const RunConfig& config, const BatchShape& shape,
                     const TrainState& state)
    : config_{config},
      shape_{shape},
      state_{&state},
      reducer_{exec,
               {.store = &state.store(),
                .plan = &state.optimizer().plan(),
                .groups = state.links().groups,
                .factory = state.links().factory,
                .options = parallel::reduce_options(config.parallel)}},
      block_{exec,
             {.micro_batches = shape.micro_batches,
              .sequences = shape.micro_batch,
              .seq_len = shape.seq_len,
              .extra_bytes = kInputBytes + kFactorBytes}},
      scalars_{persistent(exec, {kFactors}, DType::f32, MemoryKind::state)},
      pp_{state.links().make(state.links().groups->pp())},
      verbs_{verbs_of(config, shape, state)},
      executor_{exec,
                {.shape = schedule_shape(config.parallel, shape.micro_batches),
                 .verbs = verbs_,
                 .group = state.links().groups->pp(),
                 .factory = state.links().factory,
                 .plans_device_messages = plans_device_messages(config.parallel, exec.device())}} {
  const nn::ModelState& model = state.model_state();
  if (state.links().groups->pp().size() > 1 && bias_bytes(model) > 0) {
    all_bias_ = persistent(exec, model.bias_block.shape(), DType::f32, MemoryKind::state);
  }
  if (exec.is_dry()) return;
  for (int i = 0; i < BatchBlock::kSlots; ++i) {
    slots_.push_back({.totals = HostBuffer{exec.device(), model.totals.bytes()},
                      .bias = HostBuffer{exec.device(), bias_bytes(model)},
                      .state = HostBuffer{exec.device(), kStateBytes},
                      .overflow = HostBuffer{exec.device(), size_of(DType::f32)},
                      .done = Event{exec.device()}});
  }
}

void TrainStep::write_extra(int slot, const StepInputs& inputs) const {
  const nn::ModelConfig& m = config_.model;
  const auto sequences = static_cast<double>(config_.training.global_batch_size);
  const double tokens = sequences * static_cast<double>(shape_.seq_len);
  const double groups = m.aux_loss_scope == "sequence"
                            ? sequences
                            : sequences / static_cast<double>(shape_.micro_batch);
  const auto targets = static_cast<double>(std::max<std::int64_t>(1, inputs.targets));
  const Factors factors{.loss = static_cast<float>(1.0 / targets),
                        .aux = static_cast<float>(m.router_aux_loss_coef / groups),
                        .z = static_cast<float>(m.router_z_loss_coef / tokens),
                        .budget = static_cast<float>(m.dynamic_heads.head_budget_coef / sequences)};
  static_assert(sizeof(Factors) == kFactorBytes);
  std::memcpy(block_.host_extra(slot), &inputs.scalars, sizeof inputs.scalars);
  std::memcpy(block_.host_extra(slot) + kInputBytes, &factors, sizeof factors);
}

void TrainStep::enqueue(const Exec& exec, const StepInputs& inputs) {
  expect(pending_ < BatchBlock::kSlots, "a result must be read before the next step");
  expect(inputs.batch->num_micro_batches() == shape_.micro_batches, "a step of another size");
  const int slot = (head_ + pending_) % BatchBlock::kSlots;
  for (std::int64_t i = 0; i < shape_.micro_batches; ++i) {
    block_.fill(slot, i, inputs.batch->micro_batch(i));
  }
  write_extra(slot, inputs);
  block_.upload(exec, slot);
  run_or_launch(exec, slot);
  read_back(exec, slot);
  ++pending_;
}

/// The first step runs as it is: libraries choose their algorithms there.
void TrainStep::run_or_launch(const Exec& exec, int slot) {
  const bool capturable = config_.training.cuda_graph && !watched_ && exec.on_gpu() &&
                          reducer_.capturable() && state_->capturable() && executor_.capturable();
  if (!capturable || !warm_) {
    warm_ = true;
    return run(exec, slot);
  }
  if (!graph_.recorded()) graph_.record(exec, [&] { run(exec, slot); });
  graph_.launch(exec);
  if (const auto* factory = state_->links().factory) factory->note_launch(exec);
}

void TrainStep::run(const Exec& exec, int slot) {
  const optim::Optimizer& optimizer = state_->optimizer();
  optimizer.take_inputs(exec, block_.device_extra());
  ops::step_scale(
      exec, {.out = scalars_,
             .factor = ConstTensorView{block_.device_extra() + kInputBytes, {kFactors}, DType::f32},
             .state = optimizer.state()});
  state_->chunks().front().begin_step(exec);
  if (!state_->overflow().absent()) zero(exec, state_->overflow());
  reducer_.begin_step();
  verbs_.set_watch(probe_ ? nullptr : &reducer_);  // a probe changes gradients before any leaves
  backward(exec);
  if (probe_) probe_(exec);
  reduce(exec, slot);
  optimizer.step(exec, {.world = reducer_.world(), .overflow = state_->overflow()});
  reducer_.gather_weights(exec);
  for (const nn::Model& chunk : state_->chunks()) {
    chunk.update_router_bias(exec, optimizer.skip_flag());
  }
  gather_bias(exec);
}

void TrainStep::backward(const Exec& exec) {
  verbs_.begin_step({.loss_grad_scale = scalars_.rows(0, 1),
                     .aux_scale = scalars_.rows(1, 1),
                     .z_scale = scalars_.rows(2, 1),
                     .budget_scale = scalars_.rows(3, 1),
                     .step_seed = state_->optimizer().step_seed()},
                    [this](int i) { return block_.batch(i); });
  executor_.run(exec);
}

void TrainStep::reduce(const Exec& exec, int slot) {
  const Stopwatch clock;
  reducer_.sum_totals(exec, state_->model_state().totals);
  reducer_.finish(exec);
  if (exec.is_dry()) return;
  Slot& s = slots_[static_cast<std::size_t>(slot)];
  s.seconds_reduce = clock.seconds();
  s.reduced_early = reducer_.overlapped_share();
}

/// Rank 0 reports the biases of all stages; each stage's block is zero where others have layers.
void TrainStep::gather_bias(const Exec& exec) const {
  if (all_bias_.absent()) return;
  const TensorView& mine = state_->model_state().bias_block;
  copy(exec, all_bias_.bytes_begin(), mine.bytes_begin(), mine.bytes());
  pp_->all_reduce(exec, all_bias_, comm::ReduceOp::sum);
}

void TrainStep::read_back(const Exec& exec, int slot) {
  Slot& s = slots_[static_cast<std::size_t>(slot)];
  const nn::ModelState& model = state_->model_state();
  download(exec, s.totals.data(), model.totals.bytes_begin(), model.totals.bytes());
  if (bias_bytes(model) > 0) {
    const TensorView& bias = all_bias_.absent() ? model.bias_block : all_bias_;
    download(exec, s.bias.data(), bias.bytes_begin(), bias.bytes());
  }
  download(exec, s.state.data(), state_->optimizer().state().bytes_begin(), kStateBytes);
  if (const TensorView& overflow = state_->overflow(); !overflow.absent()) {
    download(exec, s.overflow.data(), overflow.bytes_begin(), overflow.bytes());
  }
  s.done.record(exec);
}

StepResult TrainStep::next_result() {
  expect(pending_ > 0, "no step is pending");
  const Slot& s = slots_[static_cast<std::size_t>(head_)];
  s.done.wait();
  StepResult result{.totals = copy_of<float>(s.totals),
                    .bias = copy_of<float>(s.bias),
                    .seconds_reduce = s.seconds_reduce,
                    .reduced_early = s.reduced_early};
  std::memcpy(&result.state, s.state.data(), sizeof result.state);
  if (!state_->overflow().absent()) result.overflow = *s.overflow.as<float>();
  head_ = (head_ + 1) % BatchBlock::kSlots;
  --pending_;
  return result;
}

void TrainStep::measure(const Exec& exec) {
  expect(exec.is_dry(), "a real step needs a batch");
  run(exec, 0);
}

}  // namespace shoal::train
