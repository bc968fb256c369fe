#pragma once
#include <memory>
#include <string>
#include <vector>

#include "comm/nccl_comm.hpp"
#include "comm/nccl_session.hpp"
#include "comm/side_queue.hpp"
#include "shoal/comm/point_to_point.hpp"

namespace shoal::comm {

/// Messages of a plan through NCCL, on a communicator and a stream of their own: collectives cannot
/// come between them. No host takes part. A message that leaves is copied to a buffer, one that
/// arrives waits in a buffer, so that the stream beside may run ahead of the Exec's or behind it.
/// All messages have the size of the buffers.
class NcclPointToPoint final : public PointToPoint {
 public:
  struct Parts {
    std::string name;  ///< of the group, for the journal
    int journal_group = -1;
    std::unique_ptr<NcclComm> comm;
    std::unique_ptr<SideQueue> queue;  ///< of points_of(plan) points
    std::shared_ptr<NcclSession> session;
    MessagePlan plan;
    MessageBuffers buffers;
  };
  explicit NcclPointToPoint(Parts parts);
  ~NcclPointToPoint() override;
  NcclPointToPoint(const NcclPointToPoint&) = delete;
  NcclPointToPoint& operator=(const NcclPointToPoint&) = delete;

  [[nodiscard]] static int points_of(const MessagePlan& plan);

  [[nodiscard]] int rank() const override { return parts_.comm->rank(); }
  [[nodiscard]] int size() const override { return parts_.comm->size(); }
  [[nodiscard]] bool capturable() const override { return true; }
  [[nodiscard]] double seconds_waiting() const override { return 0.0; }

 private:
  struct Leaving {
    TensorView buffer;
    int filled = 0, sent = 0;  ///< points: in the Exec's stream, in the stream beside
    bool was_sent = false;     ///< since the last flush
  };
  struct Arriving {
    TensorView buffer;
    int arrived = 0, taken = 0;  ///< points: in the stream beside, in the Exec's stream
    bool was_taken = false;      ///< since the last flush
    bool full = false;
    PlannedMessage message;
  };
  /// The message that send() has put into a buffer.
  struct Made {
    Leaving* from = nullptr;  ///< null: none
    int to = 0;
    MessageTag tag;
  };

  void run_send(const Exec& exec, const ConstTensorView& data, int to,
                const MessageTag& tag) override;
  void run_recv(const Exec& exec, const TensorView& data, int from, const MessageTag& tag) override;
  void run_reach(const Exec& exec, int action) override;
  void run_flush(const Exec& exec) override;

  void start(const Exec& exec);
  void give_tick(const Exec& exec);
  void wait_for_buffers(const MessagePlan::Tick& tick);
  void issue(const PlannedMessage& message);
  [[nodiscard]] Arriving* find(int from, const MessageTag& tag);

  Parts parts_;
  std::vector<Leaving> leaving_;
  std::vector<Arriving> arriving_;
  Made made_;
  std::size_t turn_ = 0;  ///< of the leaving buffers
  std::size_t next_ = 0;  ///< tick
  bool started_ = false;  ///< since the last flush
};

}  // namespace shoal::comm
