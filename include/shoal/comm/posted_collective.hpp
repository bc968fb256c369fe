#pragma once

namespace shoal::comm {

/// A collective that was started and goes on while the host does other work. Its buffers must stay
/// untouched until it has ended.
class PostedCollective {
 public:
  virtual ~PostedCollective() = default;
  /// Moves it on without waiting; true when it has ended. Messages may move only inside calls of
  /// the transport, so this is called now and then while the host computes.
  [[nodiscard]] virtual bool progress() = 0;
  /// Until it has ended; the wait stands in the journal.
  virtual void wait() = 0;
};

}  // namespace shoal::comm
