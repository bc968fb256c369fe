#pragma once
#include <memory>
#include <string>

#include "comm/nccl_comm.hpp"
#include "comm/nccl_session.hpp"
#include "shoal/comm/tensor_collectives.hpp"

namespace shoal::comm {

/// Collectives of one group through NCCL, given to the Exec's stream. No host takes part: the
/// journal's entries are ended by the session when the device has come past them. Sums of bf16 and
/// fp16 are rounded where NCCL does; which ranks sum first is fixed by algorithm and protocol.
class NcclCollectives final : public TensorCollectives {
 public:
  struct Group {
    std::string name;
    int journal_group = -1;
  };
  NcclCollectives(Group group, std::unique_ptr<NcclComm> comm,
                  std::shared_ptr<NcclSession> session);
  ~NcclCollectives() override;

  [[nodiscard]] int rank() const override { return comm_->rank(); }
  [[nodiscard]] int size() const override { return comm_->size(); }
  [[nodiscard]] bool capturable() const override { return true; }
  [[nodiscard]] bool only_copies() const override { return false; }

  /// One message to or from a rank of the group; both sides know its size. A message waits on its
  /// stream for the other side: use exchange() where two ranks send to each other.
  void send(const Exec& exec, const ConstTensorView& data, int to);
  void recv(const Exec& exec, const TensorView& data, int from);
  struct Message {
    ConstTensorView send;
    int to = 0;
    TensorView recv;
    int from = 0;
  };
  /// Both at once.
  void exchange(const Exec& exec, const Message& message);

 private:
  void run_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op) override;
  void run_reduce_scatter(const Exec& exec, const ReduceScatter& args) override;
  void run_all_gather(const Exec& exec, const AllGather& args) override;
  void run_broadcast(const Exec& exec, const TensorView& data, int root) override;
  /// One group of messages, the own block too. With overlapping work it runs on a stream beside.
  void run_all_to_all_rows(const Exec& exec, const AllToAllRows& args) override;
  void issue_blocks(const AllToAllRows& args, CUstream_st* stream);

  /// Enters the operation into the journal and runs `body`, which issues it.
  template <class Body>
  void operation(const Exec& exec, Operation op, std::int64_t bytes, Body body);

  Group group_;
  std::unique_ptr<NcclComm> comm_;
  std::shared_ptr<NcclSession> session_;
};

/// `group` has the ranks of `comm`.
[[nodiscard]] std::unique_ptr<TensorCollectives> make_nccl_collectives(
    const Communicator& group, std::unique_ptr<NcclComm> comm,
    std::shared_ptr<NcclSession> session);

}  // namespace shoal::comm
