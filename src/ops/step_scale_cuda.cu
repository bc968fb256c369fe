#include "ops/cuda_common.cuh"
#include "shoal/ops/optimizer.hpp"
#include "shoal/ops/step_scale.hpp"

namespace shoal::ops::cuda {
namespace {

__global__ void step_scale_kernel(float* out, const float* factor, const StepState* state, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) out[i] = factor[i] * state->loss_scale;
}

}  // namespace

void step_scale(const Exec& exec, const StepScale& a) {
  const int n = static_cast<int>(a.out.elements());
  expect(n <= kWarpSize, "step_scale: one warp is enough for the scalars of a step");
  step_scale_kernel<<<1, kWarpSize, 0, exec.cuda().stream>>>(
      a.out.data<float>(), a.factor.data<float>(),
      reinterpret_cast<const StepState*>(a.state.bytes_begin()), n);
  check_launch();
}

}  // namespace shoal::ops::cuda
