#pragma once
#include <nccl.h>

#include <mutex>
#include <string>

#include "comm/nccl/side_stream.hpp"
#include "comm/nccl_comm.hpp"
#include "shoal/base/error.hpp"

namespace shoal::comm {

/// Throws with NCCL's text; work under way is not an error.
void check_nccl(ncclResult_t result, ncclComm_t comm = nullptr, Where at = Where::current());

/// A non-blocking communicator of the NCCL library: a call that needs time, as the first one of a
/// kind does for its connections, is polled until it is given to the device or the time is over;
/// then the communicator is aborted.
class LibraryComm final : public NcclComm {
 public:
  struct Start {
    ncclUniqueId id;
    int rank = 0;
    int size = 1;
    double timeout_s = 600.0;
  };
  explicit LibraryComm(const Start& start);
  /// Takes over a communicator that a split has begun.
  LibraryComm(ncclComm_t comm, std::string name, double timeout_s);
  ~LibraryComm() override;
  LibraryComm(const LibraryComm&) = delete;
  LibraryComm& operator=(const LibraryComm&) = delete;

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::unique_ptr<NcclComm> split(const Split& how) override;
  void issue(const NcclCall& call, const NcclBuffers& buffers, CUstream_st* stream) override;
  void group_start() override;
  void group_end() override;
  [[nodiscard]] CUstream_st* fork(CUstream_st* stream) override;
  void join(CUstream_st* stream) override;
  [[nodiscard]] std::optional<std::string> async_error() override;
  void abort() noexcept override;

 private:
  [[nodiscard]] ncclResult_t state();
  /// Waits until the last call has been carried out on the host.
  void settle(std::string_view what);
  [[nodiscard]] ncclResult_t start_call(const NcclCall& call, const NcclBuffers& buffers,
                                        CUstream_st* stream);
  void close() noexcept;

  std::unique_ptr<SideStream> side_;  ///< made by the first fork
  std::timed_mutex mutex_;            ///< of comm_: abort() comes from another thread
  ncclComm_t comm_ = nullptr;
  std::string name_;
  double timeout_s_ = 600.0;
  int rank_ = 0;
  int size_ = 1;
  bool grouped_ = false;
};

}  // namespace shoal::comm
