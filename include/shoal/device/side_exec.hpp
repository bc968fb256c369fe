#pragma once
#include "shoal/device/event.hpp"

namespace shoal {

/// A second stream of a GPU Exec, for work that overlaps with it; also while that Exec records a
/// graph, which then holds both. A fork must be joined before the recording ends.
class SideExec {
 public:
  explicit SideExec(const Exec& exec)
      : exec_{exec.beside()}, forked_{exec.device()}, joined_{exec.device()} {}

  /// The Exec of that stream, which goes on where `exec` is now.
  [[nodiscard]] const Exec& fork(const Exec& exec) {
    forked_.record(exec);
    forked_.hold_back(exec_);
    return exec_;
  }
  /// `exec` goes on when the stream has come here.
  void join(const Exec& exec) {
    joined_.record(exec_);
    joined_.hold_back(exec);
  }

 private:
  Exec exec_;
  Event forked_, joined_;
};

}  // namespace shoal
