#pragma once
#include <memory>
#include <optional>
#include <string>

#include "shoal/comm/communicator.hpp"

struct CUstream_st;  // cudaStream_t

namespace shoal::comm {

/// One call of NCCL as data: what all members must agree on.
struct NcclCall {
  /// all_reduce, reduce_scatter, all_gather, broadcast, send or recv.
  Operation op = Operation::all_reduce;
  std::int64_t count = 0;  ///< elements of the block of one rank, as NCCL counts
  ElementType type = ElementType::f32;
  ReduceOp reduce = ReduceOp::sum;
  int peer = -1;  ///< root, target or source
};
struct NcclBuffers {
  const void* send = nullptr;
  void* recv = nullptr;
};

/// A communicator of NCCL: the library itself, or a recorder in tests. Calls return when the work
/// is given to the stream; errors are shoal::Error with NCCL's text. One thread issues; abort() and
/// async_error() may be called beside it.
class NcclComm {
 public:
  struct Split {
    std::optional<int> color;  ///< absent: this rank joins no group
    int key = 0;
    std::string name;
  };

  virtual ~NcclComm() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// Collective over this communicator; null where the colour is absent.
  [[nodiscard]] virtual std::unique_ptr<NcclComm> split(const Split& how) = 0;
  virtual void issue(const NcclCall& call, const NcclBuffers& buffers, CUstream_st* stream) = 0;
  /// Calls between the two are one operation, whose parts run together.
  virtual void group_start() = 0;
  virtual void group_end() = 0;
  /// A stream beside `stream` that starts where that one is, for work that overlaps with it; what
  /// `stream` is given after join() comes after both.
  [[nodiscard]] virtual CUstream_st* fork(CUstream_st* stream) = 0;
  virtual void join(CUstream_st* stream) = 0;
  /// What went wrong on the device or the network since the calls returned.
  [[nodiscard]] virtual std::optional<std::string> async_error() = 0;
  virtual void abort() noexcept = 0;
};

/// Points in the work of a stream, so that a thread can see which operations have ended without
/// waiting. A fixed number of them, made at the start.
class DeviceMarks {
 public:
  virtual ~DeviceMarks() = default;
  [[nodiscard]] virtual int count() const = 0;
  /// False when the stream records a graph instead of running: there is nothing to see.
  [[nodiscard]] virtual bool set(int mark, CUstream_st* stream) = 0;
  [[nodiscard]] virtual bool reached(int mark) = 0;
  /// Called once by the thread that asks reached().
  virtual void enter_thread() {}
};

}  // namespace shoal::comm
