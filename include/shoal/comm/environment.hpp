#pragma once
#include <functional>
#include <string>

namespace shoal::comm {

/// Starts MPI for the lifetime of the object (MPI_Init_thread, funneled) and makes MPI return its
/// errors, so that they become shoal::Error. Exactly one per process, in main.
class Environment {
 public:
  Environment(int& argc, char**& argv);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  /// Ends every process of the job within seconds: MPI_Abort, and _exit(code) if that does not
  /// return. `first`, unless empty, runs before, within the same time. Callable from any thread,
  /// with or without MPI.
  [[noreturn]] static void abort(int code, const std::function<void()>& first = {}) noexcept;
  [[nodiscard]] static bool active();
  /// The MPI library's own version line, e.g. "Open MPI v4.1.4 ...".
  [[nodiscard]] static std::string version();
  [[nodiscard]] static std::string host_name();
};

}  // namespace shoal::comm
