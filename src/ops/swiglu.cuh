#pragma once
// The arithmetic of SwiGLU, shared by its own kernels and the products that end with it: both give
// the same bits.
#include "ops/cuda_common.cuh"

namespace shoal::ops::cuda {

/// Within a few units in the last place of fp32; 0 below -87.
__device__ inline float sigmoid(float x) {
  return __fdividef(1.0F, 1.0F + __expf(-x));
}

__device__ inline float swiglu(float gate, float up) {
  return up * (gate * sigmoid(gate));
}

struct SwigluGradient {
  float gate, up;
};
__device__ inline SwigluGradient swiglu_gradient(float dh, float gate, float up) {
  const float s = sigmoid(gate);
  return {.gate = dh * up * s * (1.0F + gate * (1.0F - s)), .up = dh * gate * s};
}

}  // namespace shoal::ops::cuda
