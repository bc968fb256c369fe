#pragma once
#include <memory>

#include "shoal/device/exec.hpp"

namespace shoal {

/// A point in the work given to an Exec, for the one place where the host waits for results of an
/// earlier step while the device is busy with the next. On the CPU work is done when it is given.
class Event {
 public:
  explicit Event(DeviceKind device);
  Event(Event&&) noexcept;
  Event& operator=(Event&&) noexcept;
  ~Event();

  void record(const Exec& exec);
  /// Host waits until the recorded work is done; returns at once when nothing was recorded.
  void wait() const;

 private:
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

}  // namespace shoal
