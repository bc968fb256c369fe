#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/comm/tensor_collectives.hpp"

namespace shoal::comm {

/// One collective, or one message, as the ranks of its group must agree on it.
struct RecordedCall {
  int group = 0;  ///< index into RankCalls::groups
  Operation op = Operation::barrier;
  std::int64_t bytes = 0;  ///< as in the journal; of one row for all_to_all_v
  ElementType type = ElementType::u8;
  ReduceOp reduce = ReduceOp::sum;
  int peer = -1;  ///< root of a broadcast, target or source of a message; rank in the group
  /// Calls with the same number are issued together, in no order (a group of NCCL); -1: alone.
  int batch = -1;
  std::vector<std::int64_t> send_rows, recv_rows;  ///< all_to_all_v: one a member
};

struct RecordedGroup {
  std::string name;
  std::vector<int> members;  ///< world ranks in group order
};

/// What one rank asked for, in order.
struct RankCalls {
  std::vector<RecordedGroup> groups;
  std::vector<RecordedCall> calls;
};

/// Grows with the run: for tests and hunts.
class CallLog {
 public:
  /// The index for RecordedCall::group.
  int open_group(RecordedGroup group);
  void add(RecordedCall call);
  [[nodiscard]] const RankCalls& calls() const { return calls_; }

 private:
  RankCalls calls_;
};

/// The same collectives as `inner`, each entered into the log. `members` are world ranks.
[[nodiscard]] std::unique_ptr<TensorCollectives> make_recording_collectives(
    std::unique_ptr<TensorCollectives> inner, RecordedGroup group, std::shared_ptr<CallLog> log);

/// Every rank's calls, in rank order, on root; empty elsewhere. Collective.
[[nodiscard]] std::vector<RankCalls> gather_calls(const Communicator& world, const RankCalls& mine);

struct SequenceRules {
  /// Calls of a rank run one after another whatever their group, as on one stream. Otherwise each
  /// group has a stream of its own.
  bool one_stream = true;
};
/// Plays the calls of all ranks: a collective runs when every member has come to it, a message when
/// both sides have. Returns a description of the first call that does not match, or that waits for
/// ever, naming ranks and calls; nothing when all calls ran.
[[nodiscard]] std::optional<std::string> check_sequences(std::span<const RankCalls> ranks,
                                                         const SequenceRules& rules = {});

}  // namespace shoal::comm
