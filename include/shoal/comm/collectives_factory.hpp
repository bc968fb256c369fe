#pragma once
#include <functional>
#include <memory>
#include <string>

#include "shoal/comm/point_to_point.hpp"
#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/comm/transport_choice.hpp"

namespace shoal::comm {

class CallLog;      // what each rank asked for, to be compared (call_log.hpp)
class NcclComm;     // one communicator of NCCL
class NcclSession;  // the world communicator of NCCL and the thread that watches it

struct CollectivesOptions {
  TransportChoice choice = TransportChoice::automatic;
  bool force_groups_of_one = false;  ///< NCCL also in groups of one: every call on a single GPU
  double timeout_s = 600.0;          ///< for starting and splitting NCCL communicators
  HostCollectivesOptions host;
  std::shared_ptr<CallLog> calls;  ///< records every collective when given
};

/// Makes the collectives of every group of a run over one transport, chosen once for all ranks.
class CollectivesFactory {
 public:
  /// Collective over `world`, which must outlive the factory. With DeviceKind::cuda each rank has
  /// selected its GPU before.
  CollectivesFactory(const Communicator& world, DeviceKind device,
                     const CollectivesOptions& options = {});
  CollectivesFactory(CollectivesFactory&&) noexcept;
  CollectivesFactory& operator=(CollectivesFactory&&) noexcept;
  ~CollectivesFactory();

  /// Collective over the world: every rank calls it for its group of the same name, in the same
  /// order, also where its group has one member; Error when the names differ. Groups on paper get
  /// collectives for a dry Exec, without the others. `group` must outlive the result.
  [[nodiscard]] std::unique_ptr<TensorCollectives> make(const Communicator& group) const;

  /// Messages within `group`, which must outlive the result. Collective like make(). With NCCL on a
  /// communicator and a stream of their own, through buffers from the Exec's arena.
  [[nodiscard]] std::unique_ptr<PointToPoint> make_point_to_point(
      const Exec& exec, const Communicator& group, const PointToPointOptions& options) const;

  [[nodiscard]] TransportKind kind() const { return decision_.kind; }
  [[nodiscard]] DeviceKind device() const { return device_; }
  /// One line for the head of a run: transport and reason; with NCCL also version, algorithm and
  /// protocol.
  [[nodiscard]] std::string describe() const;
  /// Enters what the Exec's stream was given so far into the journal as one call of the world: for
  /// a launched graph, whose collectives the journal does not see one by one. With NCCL only; over
  /// MPI no graph holds collectives.
  void note_launch(const Exec& exec) const;
  /// Ends all NCCL work in flight, so that no kernel waits for a lost rank. From any thread.
  void abort() const noexcept;
  /// The same for who may outlive the factory, as a Watchdog does.
  [[nodiscard]] std::function<void()> abort_hook() const;

 private:
  [[nodiscard]] std::unique_ptr<NcclComm> split(const Communicator& group, bool joins,
                                                const std::string& name) const;
  void check_same_name(const Communicator& group) const;

  const Communicator* world_;
  DeviceKind device_;
  CollectivesOptions options_;
  TransportDecision decision_;
  std::shared_ptr<NcclSession> nccl_;  ///< null with MPI
};

}  // namespace shoal::comm
