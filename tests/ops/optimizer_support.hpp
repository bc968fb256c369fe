#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "ops/both_devices.hpp"
#include "shoal/ops/optimizer.hpp"

namespace shoal::test {

inline Tensor upload_state(const Exec& exec, const ops::StepState& state) {
  Tensor tensor{exec.device(), {sizeof(state)}, DType::u8};
  upload(exec, tensor.view().bytes_begin(), &state, sizeof(state));
  exec.synchronize();
  return tensor;
}
inline ops::StepState download_state(const Exec& exec, const Tensor& tensor) {
  const auto bytes = download_as<std::uint8_t>(exec, tensor);
  ops::StepState state;
  std::memcpy(&state, bytes.data(), sizeof(state));
  return state;
}

/// The state as step_decide leaves it after its `steps`-th good step, without clipping.
inline ops::StepState good_state(int steps, const std::vector<float>& mu, double beta1,
                                 double beta2, float lr) {
  ops::StepState s{.lr = lr, .mu = mu[static_cast<std::size_t>(steps - 1)], .grad_factor = 1.0F};
  s.step_seed = 1000 + steps;
  s.good_steps = steps;
  for (int i = 0; i < steps; ++i) {
    s.beta1_power *= beta1;
    s.beta2_power *= beta2;
    s.mu_product *= mu[static_cast<std::size_t>(i)];
  }
  s.correction1 = static_cast<float>(1.0 / (1.0 - s.beta1_power));
  s.correction2 = static_cast<float>(1.0 / (1.0 - s.beta2_power));
  s.correction_u = static_cast<float>(1.0 / (1.0 - s.mu_product));
  return s;
}

inline constexpr double kBeta1 = 0.9, kBeta2 = 0.95;

/// mu of each step: linear from 0.9 to 0.99 over the first half.
inline std::vector<float> mu_schedule(int steps) {
  std::vector<float> mu;
  for (int i = 0; i < steps; ++i) {
    mu.push_back(static_cast<float>(0.9 + 0.09 * std::min(1.0, 2.0 * i / steps)));
  }
  return mu;
}

/// Settings and gradients of the golden file.
inline ops::OptimizerUpdate golden_settings(ops::OptimizerKind kind) {
  return {.kind = kind,
          .beta1 = 0.875,
          .beta2 = 0.96875,
          .eps = 0x1p-20F,
          .nu = 0.0F,
          .weight_decay = 0.125F};
}
inline double golden_gradient(int step, std::size_t i) {
  return ((step * 7 + static_cast<int>(i) * 13) % 17 - 8) / 16.0;
}
inline ops::StepState golden_state(int step) {
  return good_state(step, std::vector<float>(100, 0.5F), 0.875, 0.96875, 0x1p-8F);
}

inline std::string name(ops::OptimizerKind kind) {
  constexpr const char* kNames[] = {"amf", "amf_classic", "amf_nesterov", "adamw", "sgd"};
  return kNames[static_cast<int>(kind)];
}
inline const std::vector<ops::OptimizerKind> kAllKinds = {
    ops::OptimizerKind::amf, ops::OptimizerKind::amf_classic, ops::OptimizerKind::amf_nesterov,
    ops::OptimizerKind::adamw, ops::OptimizerKind::sgd};

/// N parameters with their states on a device, started from normal values.
struct Parameters {
  std::int64_t N;
  Tensor value, low, master, m, v, u;

  Parameters(const Exec& exec, std::int64_t n, DType dtype, DType moments, bool zero_states = false)
      : N{n},
        value{exec.device(), {n}, dtype},
        low{exec.device(), {n}, DType::u16},
        master{normal(exec, {n}, DType::f32, 21)},
        m{normal(exec, {n}, moments, 22, zero_states ? 0.0F : 0.1F)},
        v{normal(exec, {n}, DType::f32, 23, zero_states ? 0.0F : 0.1F)},
        u{normal(exec, {n}, moments, 24, zero_states ? 0.0F : 0.1F)} {
    auto squares = download_floats(exec, v);
    for (float& x : squares) x = x * x;
    upload_values(exec, v, squares);
    ops::split_master(exec, {.value = value, .low = low, .master = master});
    exec.synchronize();
  }

  void update(const Exec& exec, ops::OptimizerUpdate args, const Tensor& grad,
              const ops::StepState& state) const {
    const Tensor state_tensor = upload_state(exec, state);
    args.value = value;
    args.low = low;
    args.master = master;
    args.grad = grad;
    args.m = m;
    args.v = v;
    args.u = u;
    args.state = state_tensor;
    ops::optimizer_update(exec, args);
    exec.synchronize();
  }
  /// fp32 master values.
  [[nodiscard]] std::vector<float> weights(const Exec& exec) const {
    const Tensor out = value.dtype() == DType::f16 ? Tensor{} : poisoned(exec, {N}, DType::f32);
    const TensorView target = value.dtype() == DType::f16 ? master.view() : out.view();
    ops::join_master(exec, {.value = value, .low = low, .master = target});
    return download_floats(exec, target);
  }
};

}  // namespace shoal::test
