#pragma once
// Only CUDA sources include this: it needs the CUDA headers.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "shoal/base/error.hpp"

namespace shoal::cuda {

inline void check(cudaError_t e, Where at = Where::current()) {
  if (e != cudaSuccess) [[unlikely]]
    fail("CUDA", cudaGetErrorString(e), at);
}
inline void check(cublasStatus_t e, Where at = Where::current()) {
  if (e != CUBLAS_STATUS_SUCCESS) [[unlikely]]
    fail("cuBLAS", cublasGetStatusString(e), at);
}
/// After a kernel launch.
inline void check_launch(Where at = Where::current()) {
  check(cudaGetLastError(), at);
}

}  // namespace shoal::cuda
