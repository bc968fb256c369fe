#include "shoal/optim/optimizer.hpp"

#include <cstddef>

#include "shoal/base/error.hpp"

namespace shoal::optim {
namespace {

constexpr auto kStateBytes = static_cast<std::int64_t>(sizeof(ops::StepState));

TensorView upload_table(const Exec& exec, const void* data, std::size_t bytes, DType dtype) {
  const std::int64_t count = static_cast<std::int64_t>(bytes) / size_of(dtype);
  const TensorView table = persistent(exec, {count}, dtype, MemoryKind::state);
  if (exec.is_dry()) return table;
  upload(exec, table.bytes_begin(), data, table.bytes());
  exec.synchronize();
  return table;
}

TensorView upload_segments(const Exec& exec, const std::vector<ops::UpdateSegment>& segments) {
  const auto cut = ops::cut_segments(segments);
  return upload_table(exec, cut.data(), cut.size() * sizeof(cut[0]), DType::u8);
}

}  // namespace

StateTypes state_types(const OptimizerConfig& config) {
  const ops::OptimizerKind kind = parse_kind(config.kind);
  const DType moment = config.state_dtype == "bf16" ? DType::bf16 : DType::f32;
  const bool m = kind == ops::OptimizerKind::amf || kind == ops::OptimizerKind::amf_classic ||
                 kind == ops::OptimizerKind::adamw;
  const bool u =
      kind != ops::OptimizerKind::adamw && (kind != ops::OptimizerKind::amf || config.nu != 0.0);
  StateTypes types;
  if (m) types.m = moment;
  if (kind != ops::OptimizerKind::sgd) types.v = DType::f32;
  if (u) types.u = moment;
  return types;
}

Optimizer::Optimizer(const Exec& exec, const nn::ParameterStore& store,
                     const parallel::ShardPlan& plan, const OptimizerConfig& config)
    : config_{config},
      kind_{parse_kind(config.kind)},
      store_{&store},
      plan_{plan},
      states_{make_state_layout(plan, config.state_dtype == "bf16")},
      elem_{make_buffers(exec, false)},
      f32_{make_buffers(exec, true)},
      tables_{make_tables(exec)},
      state_{persistent(exec, {kStateBytes}, DType::u8, MemoryKind::state)},
      square_sum_{persistent(exec, {1}, DType::f64, MemoryKind::state)} {
  expect(&plan.layout() == &store.layout(), "the shard plan is of another layout");
}

Optimizer::Optimizer(const Exec& exec, const nn::ParameterStore& store,
                     const OptimizerConfig& config)
    : Optimizer{exec, store, parallel::ShardPlan::alone(store.layout()), config} {}

StateBuffers Optimizer::make_buffers(const Exec& exec, bool keep_f32) const {
  const StateTypes types = state_types(config_);
  const DType dtype = keep_f32 ? DType::f32 : store_->elem_dtype();
  const std::int64_t count = states_.count(keep_f32);
  const auto take = [&](std::optional<DType> type) {
    if (!type || count == 0) return TensorView{};
    return persistent(exec, {count}, *type, MemoryKind::optimizer);
  };
  const auto when = [](bool wanted, DType type) {
    return wanted ? std::optional{type} : std::nullopt;
  };
  return {.m = take(types.m),
          .v = take(types.v),
          .u = take(types.u),
          .low = take(when(dtype == DType::bf16, DType::u16)),
          .master = take(when(dtype == DType::f16, DType::f32))};
}

Optimizer::Tables Optimizer::make_tables(const Exec& exec) const {
  Tables tables{.elem = upload_segments(exec, states_.elem),
                .f32 = upload_segments(exec, states_.f32)};
  if (states_.counts_all) return tables;
  const ops::SumTable sums = ops::make_sum_table(states_.counted);
  tables.runs =
      upload_table(exec, sums.runs.data(), sums.runs.size() * sizeof(ops::SumRun), DType::u8);
  tables.run_begin =
      upload_table(exec, sums.begin.data(), sums.begin.size() * sizeof(std::int32_t), DType::i32);
  return tables;
}

void Optimizer::reset(const Exec& exec) const {
  for (const StateBuffers* b : {&elem_, &f32_}) {
    for (const TensorView& view : {b->m, b->v, b->u}) {
      if (!view.absent()) zero(exec, view);
    }
  }
  zero(exec, store_->gradients());
  ops::StepState start;
  if (dynamic_loss_scale()) start.loss_scale = static_cast<float>(config_.initial_loss_scale);
  upload(exec, state_.bytes_begin(), &start, kStateBytes);
  exec.synchronize();
}

bool Optimizer::dynamic_loss_scale() const {
  return store_->elem_dtype() == DType::f16;
}

void Optimizer::take_inputs(const Exec& exec, const void* device_inputs) const {
  copy(exec, state_.bytes_begin(), device_inputs, sizeof(StepInputs));
}

ops::OptimizerUpdate Optimizer::update_of(bool keep_f32) const {
  const nn::ParameterLayout& layout = store_->layout();
  const StateBuffers& b = buffers(keep_f32);
  const TensorView& values = keep_f32 ? store_->f32_values() : store_->elem_values();
  return {.kind = kind_,
          .value = values,
          .low = b.low,
          .master = b.master,
          .grad = store_->gradients().rows(layout.gradient_base(keep_f32), values.elements()),
          .m = b.m,
          .v = b.v,
          .u = b.u,
          .state = state_,
          .segments = keep_f32 ? tables_.f32 : tables_.elem,
          .beta1 = config_.beta1,
          .beta2 = config_.beta2,
          .eps = static_cast<float>(config_.eps),
          .nu = static_cast<float>(config_.nu),
          .weight_decay = static_cast<float>(config_.weight_decay)};
}

void Optimizer::count_squares(const Exec& exec, const StepArgs& args) const {
  ops::square_sum(exec, square_sum_, store_->gradients(), ops::Accumulate::overwrite,
                  {.runs = tables_.runs, .begin = tables_.run_begin});
  if (!args.overflow.absent()) ops::flag_overflow(exec, square_sum_, args.overflow);
  if (args.world != nullptr) args.world->all_reduce(exec, square_sum_, comm::ReduceOp::sum);
}

void Optimizer::step(const Exec& exec, const StepArgs& args) const {
  expect(args.world != nullptr || exec.is_dry() || plan_.world_size() == 1,
         "the norm of several ranks needs their collectives");
  count_squares(exec, args);
  ops::step_decide(exec, {.state = state_,
                          .square_sum = square_sum_,
                          .max_norm = static_cast<float>(config_.clip_norm),
                          .beta1 = config_.beta1,
                          .beta2 = config_.beta2,
                          .dynamic_loss_scale = dynamic_loss_scale(),
                          .growth_interval = static_cast<int>(config_.loss_scale_interval)});
  for (const bool keep_f32 : {false, true}) {
    if (states_.count(keep_f32) > 0) ops::optimizer_update(exec, update_of(keep_f32));
  }
}

ConstTensorView Optimizer::skip_flag() const {
  return ConstTensorView{state_.bytes_begin() + offsetof(ops::StepState, skip), {1}, DType::i32};
}
ConstTensorView Optimizer::step_seed() const {
  return ConstTensorView{
      state_.bytes_begin() + offsetof(ops::StepState, step_seed), {1}, DType::i64};
}

}  // namespace shoal::optim
