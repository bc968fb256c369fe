#include "shoal/ops/step_scale.hpp"

#include "shoal/ops/optimizer.hpp"

namespace shoal::ops {

void step_scale(const Exec& exec, const StepScale& a) {
  expect_dtype(a.out, DType::f32, "out");
  expect_dtype(a.factor, DType::f32, "factor");
  expect_shape(a.out, {a.factor.elements()}, "out");
  expect_shape(a.state, {static_cast<std::int64_t>(sizeof(StepState))}, "state");
  if (exec.is_dry()) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::step_scale(exec, a);
  }
  cpu::step_scale(exec, a);
}

namespace cpu {

void step_scale(const Exec&, const StepScale& a) {
  const auto& state = *reinterpret_cast<const StepState*>(a.state.bytes_begin());
  for (std::int64_t i = 0; i < a.out.elements(); ++i) {
    a.out.data<float>()[i] = a.factor.data<float>()[i] * state.loss_scale;
  }
}

}  // namespace cpu
}  // namespace shoal::ops
