#pragma once
#include <cstdint>
#include <memory>

#include "shoal/device/algorithm_cache.hpp"
#include "shoal/device/arena.hpp"
#include "shoal/device/device.hpp"

struct CUstream_st;      // cudaStream_t
struct cublasContext;    // cublasHandle_t
struct cublasLtContext;  // cublasLtHandle_t

namespace shoal {

/// The CUDA side of an Exec: one stream and what its library calls need. Only `cuda::` code reads
/// it.
struct CudaContext {
  CUstream_st* stream = nullptr;
  cublasContext* blas = nullptr;
  cublasLtContext* blas_lt = nullptr;
  void* blas_workspace = nullptr;
  std::int64_t blas_workspace_bytes = 0;
  int multiprocessors = 0;
  int compute_capability = 0;  ///< ten times the major plus the minor number: 80, 90
  std::unique_ptr<AlgorithmCache> algorithms = std::make_unique<AlgorithmCache>();
};

/// Where work runs: a device, its stream, its arena and its BLAS handles. First argument of every
/// op. A dry Exec counts memory and lets every op check its contract, then return.
class Exec {
 public:
  /// Runs for real on `device` in memory sized by `plan`.
  Exec(DeviceKind device, const ArenaPlan& plan);
  /// Counts: no memory, no GPU needed, ops return after their contract checks.
  static Exec dry(DeviceKind device);
  Exec(Exec&&) noexcept;
  Exec& operator=(Exec&&) noexcept;
  ~Exec();

  [[nodiscard]] DeviceKind device() const { return device_; }
  [[nodiscard]] bool on_gpu() const { return device_ == DeviceKind::cuda; }
  [[nodiscard]] bool is_dry() const { return arena_->counting(); }
  [[nodiscard]] Arena& arena() const { return *arena_; }
  [[nodiscard]] Store scratch() const { return arena_->scratch(); }
  [[nodiscard]] const CudaContext& cuda() const { return *cuda_; }

  /// An Exec with a stream of its own on the same GPU, for copies and collectives that overlap with
  /// this one's work: it has no arena and no BLAS.
  [[nodiscard]] Exec beside() const;

  /// Host waits until all work given to this Exec is done. Never inside a step.
  void synchronize() const;

 private:
  explicit Exec(DeviceKind device);
  DeviceKind device_;
  std::unique_ptr<Arena> arena_;
  struct CudaOwner;
  std::shared_ptr<CudaOwner> owner_;
  std::unique_ptr<CudaContext> cuda_;
};

/// Scratch memory taken inside the scope is free again at its end. Scopes nest; memory is reused in
/// stream order, so no waiting is needed.
class ScratchScope {
 public:
  explicit ScratchScope(const Exec& exec)
      : region_{exec.scratch().region()}, mark_{region_.mark()} {}
  ~ScratchScope() { region_.release(mark_); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Region& region_;
  std::int64_t mark_;
};

/// Stream-ordered copies; pageable host memory makes them wait, a HostBuffer does not.
void upload(const Exec& exec, void* device, const void* host, std::int64_t bytes);
void download(const Exec& exec, void* host, const void* device, std::int64_t bytes);
void copy(const Exec& exec, void* target, const void* source, std::int64_t bytes);
void zero(const Exec& exec, void* target, std::int64_t bytes);

}  // namespace shoal
