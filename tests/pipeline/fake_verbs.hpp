#pragma once
#include <chrono>
#include <thread>
#include <vector>

#include "shoal/base/clock.hpp"
#include "shoal/pipeline/executor.hpp"

namespace shoal::pipeline::test {

/// Model chunk k multiplies by k + 2. The input of micro-batch i is i + 1, the loss is the sum of
/// the outputs; small integers, so that everything is exact. backward_weight reads input and
/// gradient where the executor promises to keep them.
class MultiplyingVerbs final : public StageVerbs {
 public:
  MultiplyingVerbs(const ScheduleShape& shape, int rank) : shape_{shape}, rank_{rank} {
    const auto slots = static_cast<std::size_t>(shape.model_chunks() * shape.micro_batches);
    x_.resize(slots);
    dy_.resize(slots);
    weight_gradient.resize(static_cast<std::size_t>(shape.chunks));
  }
  [[nodiscard]] Border border() const override { return {.shape = {2, 3}, .dtype = DType::f32}; }

  ConstTensorView forward(const Exec& exec, const StageCall& call,
                          const TensorView& x_TD) override {
    calls.push_back({Verb::forward, call.chunk, call.micro_batch});
    const Store slot = exec.arena().saved(call.slot);
    TensorView x = x_TD;
    if (x.absent()) {
      x = allocate(slot, {2, 3}, DType::f32);
      fill(exec, x, static_cast<float>(call.micro_batch + 1));
    }
    const TensorView y = allocate(slot, {2, 3}, DType::f32);
    scale(exec, y, x, factor(call));
    x_[index(call)] = x;
    if (last(call) && !exec.is_dry()) outputs.push_back(y.data<float>()[5]);
    return y;
  }
  void backward_input(const Exec& exec, const StageCall& call,
                      const nn::StageGradients& gradients) override {
    calls.push_back({Verb::backward_input, call.chunk, call.micro_batch});
    ConstTensorView dy = gradients.dy_TD;
    if (last(call)) {
      const TensorView ones = allocate(delta_store(exec, call), {2, 3}, DType::f32);
      fill(exec, ones, 1.0F);
      dy = ones;
    }
    dy_[index(call)] = dy;
    if (!gradients.dx_TD.absent()) scale(exec, gradients.dx_TD, dy, factor(call));
  }
  void backward_weight(const Exec& exec, const StageCall& call) override {
    calls.push_back({Verb::backward_weight, call.chunk, call.micro_batch});
    add_weight_gradient(exec, call);
  }
  void backward(const Exec& exec, const StageCall& call,
                const nn::StageGradients& gradients) override {
    backward_input(exec, call, gradients);
    calls.back().verb = Verb::backward;
    add_weight_gradient(exec, call);
  }

  ActionList calls;
  std::vector<float> outputs;           ///< of the last chunk, by micro-batch
  std::vector<double> weight_gradient;  ///< of each local chunk: sum of dy * x

 private:
  [[nodiscard]] int chunk_of(const StageCall& call) const {
    return model_chunk(shape_, {rank_, call.chunk});
  }
  [[nodiscard]] bool last(const StageCall& call) const {
    return chunk_of(call) == shape_.model_chunks() - 1;
  }
  [[nodiscard]] float factor(const StageCall& call) const {
    return static_cast<float>(chunk_of(call) + 2);
  }
  [[nodiscard]] std::size_t index(const StageCall& call) const {
    return static_cast<std::size_t>(call.chunk * shape_.micro_batches + call.micro_batch);
  }
  /// Of a backward at once: scratch would do, the saved slot is as good.
  [[nodiscard]] static Store delta_store(const Exec& exec, const StageCall& call) {
    return exec.arena().saved(call.delta_slot >= 0 ? call.delta_slot : call.slot);
  }
  static void fill(const Exec& exec, const TensorView& y, float value) {
    for (int i = 0; i < 6 && !exec.is_dry(); ++i) y.data<float>()[i] = value;
  }
  static void scale(const Exec& exec, const TensorView& y, const ConstTensorView& x, float by) {
    for (int i = 0; i < 6 && !exec.is_dry(); ++i) y.data<float>()[i] = by * x.data<float>()[i];
  }
  void add_weight_gradient(const Exec& exec, const StageCall& call) {
    if (exec.is_dry()) return;
    const ConstTensorView &x = x_[index(call)], &dy = dy_[index(call)];
    for (int i = 0; i < 6; ++i) {
      weight_gradient[static_cast<std::size_t>(call.chunk)] +=
          double{x.data<float>()[i]} * double{dy.data<float>()[i]};
    }
  }

  ScheduleShape shape_;
  int rank_;
  std::vector<ConstTensorView> x_, dy_;
};

/// Stages of equal cost that sleep instead of computing, so that few cores show the bubble.
class SleepingVerbs final : public StageVerbs {
 public:
  /// `seconds`: of each of F, B and W of one chunk; `width`: elements of a border.
  explicit SleepingVerbs(double seconds, std::int64_t width = 1)
      : seconds_{seconds}, width_{width} {}
  [[nodiscard]] Border border() const override {
    return {.shape = {1, width_}, .dtype = DType::f32};
  }
  ConstTensorView forward(const Exec& exec, const StageCall& call, const TensorView&) override {
    sleep(1.0);
    return allocate(exec.arena().saved(call.slot), {1, width_}, DType::f32);
  }
  void backward_input(const Exec&, const StageCall&, const nn::StageGradients&) override {
    sleep(1.0);
  }
  void backward_weight(const Exec&, const StageCall&) override { sleep(1.0); }
  void backward(const Exec&, const StageCall&, const nn::StageGradients&) override { sleep(2.0); }
  /// Seconds in all; a busy machine wakes a sleeper late.
  [[nodiscard]] double slept() const { return slept_; }

 private:
  void sleep(double times) {
    const Stopwatch watch;
    std::this_thread::sleep_for(std::chrono::duration<double>(times * seconds_));
    slept_ += watch.seconds();
  }
  double seconds_;
  std::int64_t width_;
  double slept_ = 0.0;
};

}  // namespace shoal::pipeline::test
