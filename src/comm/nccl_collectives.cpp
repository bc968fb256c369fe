#include "comm/nccl_collectives.hpp"

#include <utility>

namespace shoal::comm {
namespace {

/// Of one row of the leading dimension.
[[nodiscard]] std::int64_t row_bytes(const ConstTensorView& view) {
  std::int64_t bytes = size_of(view.dtype());
  for (int i = 1; i < view.shape().rank(); ++i) bytes *= view.dim(i);
  return bytes;
}

}  // namespace

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

void NcclCollectives::run_all_to_all_rows(const Exec& exec, const AllToAllRows& a) {
  const std::int64_t own = a.send_rows[static_cast<std::size_t>(rank())];
  const std::int64_t bytes = (a.send.dim(0) - own) * row_bytes(a.send);
  operation(exec, Operation::all_to_all_v, bytes, [&](CUstream_st* stream) {
    if (!a.overlap) return issue_blocks(a, stream);
    issue_blocks(a, comm_->fork(stream));
    a.overlap();
    comm_->join(stream);
  });
}

void NcclCollectives::issue_blocks(const AllToAllRows& a, CUstream_st* stream) {
  const std::int64_t row = row_bytes(a.send);
  const std::byte* from = a.send.bytes_begin();
  std::byte* into = a.recv.bytes_begin();
  comm_->group_start();
  for (int r = 0; r < size(); ++r) {
    const std::int64_t sent = a.send_rows[static_cast<std::size_t>(r)] * row;
    const std::int64_t received = a.recv_rows[static_cast<std::size_t>(r)] * row;
    const NcclCall call{.op = Operation::send, .count = sent, .type = ElementType::u8, .peer = r};
    if (sent > 0) comm_->issue(call, {from, nullptr}, stream);
    const NcclCall answer{
        .op = Operation::recv, .count = received, .type = ElementType::u8, .peer = r};
    if (received > 0) comm_->issue(answer, {nullptr, into}, stream);
    from += sent;
    into += received;
  }
  comm_->group_end();
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
