#pragma once
#include <functional>
#include <memory>

#include "shoal/device/exec.hpp"

namespace shoal {

/// Work of a GPU Exec recorded once and launched again and again as one CUDA graph: the host pays
/// for one launch instead of one a kernel. Addresses are those of the recording, so everything that
/// changes between launches must lie in memory that the kernels read.
class Graph {
 public:
  Graph();
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;
  ~Graph();

  /// Records what `body` gives to the Exec, without running it. The body must have run once before
  /// (libraries choose algorithms and load kernels then) and must not wait. Error on the CPU.
  void record(const Exec& exec, const std::function<void()>& body);
  [[nodiscard]] bool recorded() const;
  /// Runs the recorded work in the order of the Exec's stream.
  void launch(const Exec& exec) const;

 private:
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

}  // namespace shoal
