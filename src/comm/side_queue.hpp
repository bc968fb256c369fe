#pragma once

struct CUstream_st;  // cudaStream_t

namespace shoal::comm {

/// A stream beside that of an Exec, and points in the work of both that the other one can wait for.
/// Where the Exec records a graph, the graph holds both once the stream has waited for the Exec.
class SideQueue {
 public:
  virtual ~SideQueue() = default;
  [[nodiscard]] virtual CUstream_st* stream() = 0;
  /// The point is where `stream` is now.
  virtual void mark(int point, CUstream_st* stream) = 0;
  /// What `stream` is given from now on comes after the point.
  virtual void wait(int point, CUstream_st* stream) = 0;
};

}  // namespace shoal::comm
