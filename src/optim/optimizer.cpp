#include "shoal/optim/optimizer.hpp"

#include <cstddef>

#include "shoal/base/error.hpp"
#include "shoal/device/buffer.hpp"

namespace shoal::optim {
namespace {

constexpr auto kStateBytes = static_cast<std::int64_t>(sizeof(ops::StepState));

bool has_m(ops::OptimizerKind kind) {
  return kind == ops::OptimizerKind::amf || kind == ops::OptimizerKind::amf_classic ||
         kind == ops::OptimizerKind::adamw;
}
bool has_v(ops::OptimizerKind kind) {
  return kind != ops::OptimizerKind::sgd;
}
bool has_u(ops::OptimizerKind kind, double nu) {
  if (kind == ops::OptimizerKind::adamw) return false;
  return kind != ops::OptimizerKind::amf || nu != 0.0;
}

TensorView part(const TensorView& whole, std::int64_t first, std::int64_t count) {
  return whole.absent() ? TensorView{} : whole.rows(first, count);
}

std::vector<StateShard> all_rows(const nn::ParameterLayout& layout) {
  std::vector<StateShard> shards;
  for (std::size_t i = 0; i < layout.parameters().size(); ++i) {
    const Shape local = nn::local_shape(layout.parameters()[i].spec.slice);
    shards.push_back({.parameter = static_cast<int>(i), .first_row = 0, .rows = local.rows()});
  }
  return shards;
}

}  // namespace

Optimizer::Optimizer(const Exec& exec, const nn::ParameterStore& store,
                     const OptimizerConfig& config)
    : config_{config},
      kind_{parse_kind(config.kind)},
      store_{&store},
      state_{persistent(exec, {kStateBytes}, DType::u8, MemoryKind::state)},
      square_sum_{persistent(exec, {1}, DType::f64, MemoryKind::state)},
      shards_{all_rows(store.layout())} {
  const nn::ParameterLayout& layout = store.layout();
  elem_ = make_buffers(exec, layout.elem_count(), store.elem_dtype());
  f32_ = make_buffers(exec, layout.f32_count(), DType::f32);
}

StateBuffers Optimizer::make_buffers(const Exec& exec, std::int64_t count, DType dtype) const {
  const DType moment = config_.state_dtype == "bf16" ? DType::bf16 : DType::f32;
  const auto take = [&](bool wanted, DType type) {
    if (!wanted || count == 0) return TensorView{};
    return persistent(exec, {count}, type, MemoryKind::optimizer);
  };
  return {.m = take(has_m(kind_), moment),
          .v = take(has_v(kind_), DType::f32),
          .u = take(has_u(kind_, config_.nu), moment),
          .low = take(dtype == DType::bf16, DType::u16),
          .master = take(dtype == DType::f16, DType::f32)};
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

ops::OptimizerUpdate Optimizer::update_of(const nn::OptimizerRange& range) const {
  const StateBuffers& b = buffers(range.keep_f32);
  return {.kind = kind_,
          .value = store_->values(range),
          .low = part(b.low, range.first, range.count),
          .master = part(b.master, range.first, range.count),
          .grad = store_->gradients(range),
          .m = part(b.m, range.first, range.count),
          .v = part(b.v, range.first, range.count),
          .u = part(b.u, range.first, range.count),
          .state = state_,
          .beta1 = config_.beta1,
          .beta2 = config_.beta2,
          .eps = static_cast<float>(config_.eps),
          .nu = static_cast<float>(config_.nu),
          .weight_decay = range.decay ? static_cast<float>(config_.weight_decay) : 0.0F,
          .first = store_->layout().gradient_base(range.keep_f32) + range.first};
}

void Optimizer::step(const Exec& exec) const {
  ops::square_sum(exec, square_sum_, store_->gradients(), ops::Accumulate::overwrite);
  ops::step_decide(exec, {.state = state_,
                          .square_sum = square_sum_,
                          .max_norm = static_cast<float>(config_.clip_norm),
                          .beta1 = config_.beta1,
                          .beta2 = config_.beta2,
                          .dynamic_loss_scale = dynamic_loss_scale(),
                          .growth_interval = static_cast<int>(config_.loss_scale_interval)});
  for (const nn::OptimizerRange& range : store_->layout().ranges()) {
    ops::optimizer_update(exec, update_of(range));
  }
}

ConstTensorView Optimizer::skip_flag() const {
  return ConstTensorView{state_.bytes_begin() + offsetof(ops::StepState, skip), {1}, DType::i32};
}
ConstTensorView Optimizer::step_seed() const {
  return ConstTensorView{
      state_.bytes_begin() + offsetof(ops::StepState, step_seed), {1}, DType::i64};
}

ops::MasterSplit Optimizer::window_views(const MasterWindow& w) const {
  const StateBuffers& b = buffers(w.keep_f32);
  const TensorView& values = w.keep_f32 ? store_->f32_values() : store_->elem_values();
  return {.value = values.rows(w.first, w.count),
          .low = part(b.low, w.first, w.count),
          .master = part(b.master, w.first, w.count)};
}

void Optimizer::set_master(const Exec& exec, const MasterWindow& window,
                           const float* values) const {
  ops::MasterSplit split = window_views(window);
  const std::int64_t bytes = window.count * size_of(DType::f32);
  const DeviceBuffer staging{exec.device(), bytes};
  if (split.master.absent()) split.master = TensorView{staging.data(), {window.count}, DType::f32};
  upload(exec, split.master.bytes_begin(), values, bytes);
  ops::split_master(exec, split);
  exec.synchronize();
}

void Optimizer::get_master(const Exec& exec, const MasterWindow& window, float* values) const {
  ops::MasterSplit split = window_views(window);
  const std::int64_t bytes = window.count * size_of(DType::f32);
  const DeviceBuffer staging{exec.device(), bytes};
  if (split.master.absent()) {
    split.master = TensorView{staging.data(), {window.count}, DType::f32};
    ops::join_master(exec, split);
  }
  download(exec, values, split.master.bytes_begin(), bytes);
  exec.synchronize();
}

}  // namespace shoal::optim
