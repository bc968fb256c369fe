#pragma once
#include <memory>

#include "shoal/device/exec.hpp"

namespace shoal {

/// A point in the work given to an Exec: the host waits for results of an earlier step while the
/// device is busy with the next, or another Exec's work comes after it. On the CPU work is done
/// when it is given.
class Event {
 public:
  explicit Event(DeviceKind device);
  Event(Event&&) noexcept;
  Event& operator=(Event&&) noexcept;
  ~Event();

  void record(const Exec& exec);
  /// Host waits until the recorded work is done; returns at once when nothing was recorded.
  void wait() const;
  /// What is given to `exec` from now on comes after the recorded work; the host does not wait.
  /// Also while either of them records a graph, which then holds both.
  void hold_back(const Exec& exec) const;

 private:
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

}  // namespace shoal
