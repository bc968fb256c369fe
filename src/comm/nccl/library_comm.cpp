#include "comm/nccl/library_comm.hpp"

#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "shoal/base/clock.hpp"

namespace shoal::comm {
namespace {

constexpr auto kPoll = std::chrono::microseconds{50};
/// What an abort waits for a thread that is inside NCCL; the job ends afterwards in any case.
constexpr auto kAbortWait = std::chrono::seconds{1};
/// What a clean end of a communicator may take.
constexpr double kCloseSeconds = 10.0;

[[nodiscard]] ncclConfig_t configuration(const char* name) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = name;
  return config;
}

[[nodiscard]] ncclDataType_t nccl_type(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return ncclFloat32;
    case ElementType::f64:
      return ncclFloat64;
    case ElementType::i32:
      return ncclInt32;
    case ElementType::i64:
      return ncclInt64;
    case ElementType::u8:
      return ncclUint8;
    case ElementType::u32:
      return ncclUint32;
    case ElementType::u64:
      return ncclUint64;
    case ElementType::f16:
      return ncclFloat16;
    case ElementType::bf16:
      return ncclBfloat16;
  }
  fail("comm", "unknown element type");
}

[[nodiscard]] ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return ncclSum;
    case ReduceOp::max:
      return ncclMax;
    case ReduceOp::min:
      return ncclMin;
  }
  fail("comm", "unknown reduction");
}

}  // namespace

void check_nccl(ncclResult_t result, ncclComm_t comm, Where at) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  fail("NCCL", std::string{ncclGetErrorString(result)} + ": " + ncclGetLastError(comm), at);
}

LibraryComm::LibraryComm(const Start& start)
    : name_{"world"}, timeout_s_{start.timeout_s}, rank_{start.rank}, size_{start.size} {
  ncclConfig_t config = configuration(name_.c_str());
  check_nccl(ncclCommInitRankConfig(&comm_, start.size, start.id, start.rank, &config));
  settle("start");
}

LibraryComm::LibraryComm(ncclComm_t comm, std::string name, double timeout_s)
    : comm_{comm}, name_{std::move(name)}, timeout_s_{timeout_s} {
  settle("split");
  check_nccl(ncclCommUserRank(comm_, &rank_), comm_);
  check_nccl(ncclCommCount(comm_, &size_), comm_);
}

LibraryComm::~LibraryComm() {
  close();
}

std::unique_ptr<NcclComm> LibraryComm::split(const Split& how) {
  ncclConfig_t config = configuration(how.name.c_str());
  ncclComm_t part = nullptr;
  {
    const std::lock_guard lock{mutex_};
    check_nccl(
        ncclCommSplit(comm_, how.color.value_or(NCCL_SPLIT_NOCOLOR), how.key, &part, &config),
        comm_);
  }
  settle("split");
  if (part == nullptr) return nullptr;
  return std::make_unique<LibraryComm>(part, how.name, timeout_s_);
}

ncclResult_t LibraryComm::start_call(const NcclCall& c, const NcclBuffers& b, CUstream_st* stream) {
  const auto count = static_cast<std::size_t>(c.count);
  const ncclDataType_t type = nccl_type(c.type);
  switch (c.op) {
    case Operation::all_reduce:
      return ncclAllReduce(b.send, b.recv, count, type, nccl_op(c.reduce), comm_, stream);
    case Operation::reduce_scatter:
      return ncclReduceScatter(b.send, b.recv, count, type, nccl_op(c.reduce), comm_, stream);
    case Operation::all_gather:
      return ncclAllGather(b.send, b.recv, count, type, comm_, stream);
    case Operation::broadcast:
      return ncclBroadcast(b.send, b.recv, count, type, c.peer, comm_, stream);
    case Operation::send:
      return ncclSend(b.send, count, type, c.peer, comm_, stream);
    case Operation::recv:
      return ncclRecv(b.recv, count, type, c.peer, comm_, stream);
    default:
      fail("comm", std::string{"NCCL has no "} + std::string{name(c.op)});
  }
}

void LibraryComm::issue(const NcclCall& call, const NcclBuffers& buffers, CUstream_st* stream) {
  {
    const std::lock_guard lock{mutex_};
    expect(comm_ != nullptr, "NCCL was aborted");
    check_nccl(start_call(call, buffers, stream), comm_);
  }
  if (!grouped_) settle(comm::name(call.op));
}

void LibraryComm::group_start() {
  check_nccl(ncclGroupStart());
  grouped_ = true;
}

void LibraryComm::group_end() {
  grouped_ = false;
  check_nccl(ncclGroupEnd());
  settle("group of messages");
}

CUstream_st* LibraryComm::fork(CUstream_st* stream) {
  if (side_ == nullptr) side_ = std::make_unique<SideStream>();
  return side_->fork(stream);
}

void LibraryComm::join(CUstream_st* stream) {
  side_->join(stream);
}

ncclResult_t LibraryComm::state() {
  const std::lock_guard lock{mutex_};
  expect(comm_ != nullptr, "NCCL was aborted");
  ncclResult_t result = ncclSuccess;
  check_nccl(ncclCommGetAsyncError(comm_, &result), comm_);
  check_nccl(result, comm_);
  return result;
}

void LibraryComm::settle(std::string_view what) {
  const Stopwatch clock;
  while (state() == ncclInProgress) {
    if (clock.seconds() > timeout_s_) {
      abort();
      fail("NCCL", std::string{what} + " on " + name_ + " did not get ready within " +
                       std::to_string(static_cast<long>(timeout_s_)) +
                       " s: another rank is missing");
    }
    std::this_thread::sleep_for(kPoll);
  }
}

std::optional<std::string> LibraryComm::async_error() {
  const std::unique_lock lock{mutex_, std::try_to_lock};
  if (!lock.owns_lock() || comm_ == nullptr) return std::nullopt;
  ncclResult_t result = ncclSuccess;
  if (ncclCommGetAsyncError(comm_, &result) != ncclSuccess) return std::nullopt;
  if (result == ncclSuccess || result == ncclInProgress) return std::nullopt;
  return std::string{"NCCL on "} + name_ + ": " + ncclGetErrorString(result) + ": " +
         ncclGetLastError(comm_);
}

void LibraryComm::abort() noexcept {
  const std::unique_lock lock{mutex_, kAbortWait};
  if (!lock.owns_lock() || comm_ == nullptr) return;
  (void)ncclCommAbort(std::exchange(comm_, nullptr));
}

/// After an error, or when the others do not follow in time, there is no clean end to wait for.
void LibraryComm::close() noexcept {
  if (comm_ == nullptr) return;
  ncclResult_t result = ncclInvalidUsage;
  if (std::uncaught_exceptions() == 0) result = ncclCommFinalize(comm_);
  const Stopwatch clock;
  while (result == ncclInProgress && clock.seconds() < kCloseSeconds) {
    std::this_thread::sleep_for(kPoll);
    if (ncclCommGetAsyncError(comm_, &result) != ncclSuccess) result = ncclInternalError;
  }
  if (result != ncclSuccess) return abort();
  (void)ncclCommDestroy(comm_);
}

}  // namespace shoal::comm
