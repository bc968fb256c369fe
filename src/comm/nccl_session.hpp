#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/nccl_comm.hpp"

namespace shoal::comm {

/// The world communicator of NCCL, from which all groups are split, and a thread that enters the
/// end of operations into the journal and looks for errors of the device and the network.
class NcclSession {
 public:
  struct Parts {
    std::unique_ptr<NcclComm> world;
    std::unique_ptr<DeviceMarks> marks;
    std::shared_ptr<Journal> journal;
    std::string description;  ///< version, algorithm, protocol
    double poll_s = 0.02;
    /// On an error of a communicator, after all were aborted; by default Environment::abort(1).
    std::function<void(const std::string&)> on_error;
  };
  explicit NcclSession(Parts parts);
  ~NcclSession();
  NcclSession(const NcclSession&) = delete;
  NcclSession& operator=(const NcclSession&) = delete;

  [[nodiscard]] std::unique_ptr<NcclComm> split(const NcclComm::Split& how) const;
  [[nodiscard]] Journal& journal() const { return *parts_.journal; }
  [[nodiscard]] const std::string& describe() const { return parts_.description; }

  /// The journal's entry ends when the stream has done the work given to it so far.
  void end_with_stream(std::int64_t sequence, CUstream_st* stream);
  void watch(NcclComm& comm);
  void forget(NcclComm& comm);
  /// Ends the work of all communicators. Once; from any thread.
  void abort() noexcept;

 private:
  struct Pending {
    std::int64_t sequence = 0;
    int mark = 0;
  };
  void run();
  void end_reached();
  [[nodiscard]] std::string find_error();

  Parts parts_;
  std::mutex mutex_;  ///< of the lists below
  std::vector<NcclComm*> watched_;
  std::vector<Pending> pending_;
  std::vector<int> free_marks_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::atomic<bool> aborted_{false};
  std::thread thread_;
};

/// Joins all ranks of `world` on their current GPUs. Collective. Only in a build with NCCL.
[[nodiscard]] std::shared_ptr<NcclSession> start_nccl(const Communicator& world, double timeout_s);

}  // namespace shoal::comm
