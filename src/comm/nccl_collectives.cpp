#include "comm/nccl_collectives.hpp"

#include <utility>

namespace shoal::comm {

NcclCollectives::NcclCollectives(Group group, std::unique_ptr<NcclComm> comm,
                                 std::shared_ptr<NcclSession> session)
    : group_{std::move(group)}, comm_{std::move(comm)}, session_{std::move(session)} {
  session_->watch(*comm_);
}

NcclCollectives::~NcclCollectives() {
  session_->forget(*comm_);
}

template <class Body>
void NcclCollectives::operation(const Exec& exec, Operation op, std::int64_t bytes, Body body) {
  CUstream_st* stream = exec.cuda().stream;
  const auto sequence = session_->journal().begin(op, group_.name, bytes, group_.journal_group);
  body(stream);
  session_->end_with_stream(sequence, stream);
}

void NcclCollectives::run_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op) {
  operation(exec, Operation::all_reduce, data.bytes(), [&](CUstream_st* stream) {
    comm_->issue({.op = Operation::all_reduce,
                  .count = data.elements(),
                  .type = element_type_of(data.dtype()),
                  .reduce = op},
                 {data.bytes_begin(), data.bytes_begin()}, stream);
  });
}

void NcclCollectives::run_reduce_scatter(const Exec& exec, const ReduceScatter& a) {
  operation(exec, Operation::reduce_scatter, a.send.bytes(), [&](CUstream_st* stream) {
    comm_->issue({.op = Operation::reduce_scatter,
                  .count = a.recv.elements(),
                  .type = element_type_of(a.recv.dtype()),
                  .reduce = a.op},
                 {a.send.bytes_begin(), a.recv.bytes_begin()}, stream);
  });
}

void NcclCollectives::run_all_gather(const Exec& exec, const AllGather& a) {
  operation(exec, Operation::all_gather, a.send.bytes(), [&](CUstream_st* stream) {
    comm_->issue({.op = Operation::all_gather, .count = a.send.bytes(), .type = ElementType::u8},
                 {a.send.bytes_begin(), a.recv.bytes_begin()}, stream);
  });
}

void NcclCollectives::run_broadcast(const Exec& exec, const TensorView& data, int root) {
  operation(exec, Operation::broadcast, data.bytes(), [&](CUstream_st* stream) {
    comm_->issue(
        {.op = Operation::broadcast, .count = data.bytes(), .type = ElementType::u8, .peer = root},
        {data.bytes_begin(), data.bytes_begin()}, stream);
  });
}

void NcclCollectives::send(const Exec& exec, const ConstTensorView& data, int to) {
  operation(exec, Operation::send, data.bytes(), [&](CUstream_st* stream) {
    comm_->issue(
        {.op = Operation::send, .count = data.bytes(), .type = ElementType::u8, .peer = to},
        {data.bytes_begin(), nullptr}, stream);
  });
}

void NcclCollectives::recv(const Exec& exec, const TensorView& data, int from) {
  operation(exec, Operation::recv, data.bytes(), [&](CUstream_st* stream) {
    comm_->issue(
        {.op = Operation::recv, .count = data.bytes(), .type = ElementType::u8, .peer = from},
        {nullptr, data.bytes_begin()}, stream);
  });
}

void NcclCollectives::exchange(const Exec& exec, const Message& m) {
  operation(exec, Operation::send_recv, m.send.bytes(), [&](CUstream_st* stream) {
    comm_->group_start();
    comm_->issue(
        {.op = Operation::send, .count = m.send.bytes(), .type = ElementType::u8, .peer = m.to},
        {m.send.bytes_begin(), nullptr}, stream);
    comm_->issue(
        {.op = Operation::recv, .count = m.recv.bytes(), .type = ElementType::u8, .peer = m.from},
        {nullptr, m.recv.bytes_begin()}, stream);
    comm_->group_end();
  });
}

std::unique_ptr<TensorCollectives> make_nccl_collectives(const Communicator& group,
                                                         std::unique_ptr<NcclComm> comm,
                                                         std::shared_ptr<NcclSession> session) {
  return std::make_unique<NcclCollectives>(
      NcclCollectives::Group{group.group_name(), group.journal_group()}, std::move(comm),
      std::move(session));
}

}  // namespace shoal::comm
