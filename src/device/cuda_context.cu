#include "device/cuda_context.hpp"

#include <cublasLt.h>

#include <string>

#include "device/memory.hpp"
#include "shoal/base/unique_handle.hpp"
#include "shoal/device/check.hpp"

namespace shoal::cuda {
namespace {

struct StreamTraits {
  using Raw = cudaStream_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw raw) noexcept { (void)cudaStreamDestroy(raw); }
};
struct BlasTraits {
  using Raw = cublasHandle_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw raw) noexcept { (void)cublasDestroy(raw); }
};
struct BlasLtTraits {
  using Raw = cublasLtHandle_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw raw) noexcept { (void)cublasLtDestroy(raw); }
};
struct WorkspaceTraits {
  using Raw = std::byte*;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw raw) noexcept { cuda::free(raw); }
};

constexpr std::int64_t kBlasWorkspaceBytes = std::int64_t{32} << 20;  // NVIDIA's advice for Hopper

}  // namespace

struct ContextOwner {
  UniqueHandle<StreamTraits> stream;
  UniqueHandle<WorkspaceTraits> workspace;
  UniqueHandle<BlasTraits> blas;
  UniqueHandle<BlasLtTraits> blas_lt;
};

std::shared_ptr<ContextOwner> make_context(CudaContext& context) {
  auto owner = std::make_shared<ContextOwner>();
  check(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking));
  owner->stream = UniqueHandle<StreamTraits>{context.stream};
  owner->workspace = UniqueHandle<WorkspaceTraits>{cuda::allocate(kBlasWorkspaceBytes)};
  check(cublasCreate(&context.blas));
  owner->blas = UniqueHandle<BlasTraits>{context.blas};
  check(cublasLtCreate(&context.blas_lt));
  owner->blas_lt = UniqueHandle<BlasLtTraits>{context.blas_lt};
  context.blas_workspace = owner->workspace.get();
  context.blas_workspace_bytes = kBlasWorkspaceBytes;
  check(cublasSetStream(context.blas, context.stream));
  check(cublasSetWorkspace(context.blas, context.blas_workspace, kBlasWorkspaceBytes));
  int device = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&context.multiprocessors, cudaDevAttrMultiProcessorCount, device));
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  context.compute_capability = 10 * major + minor;
  return owner;
}

std::shared_ptr<ContextOwner> make_stream(CudaContext& context, const CudaContext& beside) {
  auto owner = std::make_shared<ContextOwner>();
  check(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking));
  owner->stream = UniqueHandle<StreamTraits>{context.stream};
  context.multiprocessors = beside.multiprocessors;
  context.compute_capability = beside.compute_capability;
  return owner;
}

void synchronize(const CudaContext& context) {
  check(cudaStreamSynchronize(context.stream));
}

void copy_async(const CudaContext& context, void* target, const void* source, std::int64_t bytes) {
  check(cudaMemcpyAsync(target, source, static_cast<std::size_t>(bytes), cudaMemcpyDefault,
                        context.stream));
}

void zero_async(const CudaContext& context, void* target, std::int64_t bytes) {
  check(cudaMemsetAsync(target, 0, static_cast<std::size_t>(bytes), context.stream));
}

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;  // no driver is a normal absence
}

DeviceInfo info() {
  int device = 0;
  check(cudaGetDevice(&device));
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device));
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes));
  return {.name = properties.name,
          .total_bytes = static_cast<std::int64_t>(total_bytes),
          .free_bytes = static_cast<std::int64_t>(free_bytes),
          .multiprocessors = properties.multiProcessorCount};
}

void select(int index) {
  check(cudaSetDevice(index));
}

std::byte* allocate(std::int64_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, static_cast<std::size_t>(bytes));
  if (status != cudaSuccess) {
    fail("CUDA",
         "cannot allocate " + std::to_string(bytes) + " bytes: " + cudaGetErrorString(status));
  }
  return static_cast<std::byte*>(pointer);
}

void free(std::byte* pointer) noexcept {
  (void)cudaFree(pointer);
}

std::byte* allocate_pinned(std::int64_t bytes) {
  void* pointer = nullptr;
  check(cudaMallocHost(&pointer, static_cast<std::size_t>(bytes)));
  return static_cast<std::byte*>(pointer);
}

void free_pinned(std::byte* pointer) noexcept {
  (void)cudaFreeHost(pointer);
}

}  // namespace shoal::cuda
