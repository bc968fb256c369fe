#pragma once
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "comm/nccl_comm.hpp"
#include "comm/nccl_session.hpp"
#include "shoal/comm/call_log.hpp"
#include "shoal/tensor/dtype.hpp"

namespace shoal::comm {

/// NCCL without devices: every call is entered into a log, in bytes, and moves nothing. One object
/// a rank; the ranks of a test need not run at the same time.
class RecordingNccl final : public NcclComm {
 public:
  RecordingNccl(RecordedGroup group, int rank, std::shared_ptr<CallLog> log)
      : group_{std::move(group)},
        rank_{rank},
        log_{std::move(log)},
        index_{log_->open_group(group_)} {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return static_cast<int>(group_.members.size()); }
  /// The group of two that `how.color` starts, for tests; a real split would ask the others.
  [[nodiscard]] std::unique_ptr<NcclComm> split(const Split& how) override {
    if (!how.color) return nullptr;
    const RecordedGroup pair{how.name, {*how.color, *how.color + 1}};
    return std::make_unique<RecordingNccl>(pair, how.key, log_);
  }
  void issue(const NcclCall& call, const NcclBuffers& buffers, CUstream_st*) override {
    EXPECT_TRUE(call.op == Operation::recv || buffers.send != nullptr);
    EXPECT_TRUE(call.op == Operation::send || buffers.recv != nullptr);
    std::int64_t blocks = 1;  // the log holds what a rank sends, as the journal does
    if (call.op == Operation::reduce_scatter) blocks = size();
    log_->add({.group = index_,
               .op = call.op,
               .bytes = call.count * comm::size_of(call.type) * blocks,
               .type = call.type,
               .reduce = call.reduce,
               .peer = call.peer,
               .batch = grouped_ ? batch_ : -1});
  }
  void group_start() override { grouped_ = true; }
  void group_end() override {
    grouped_ = false;
    ++batch_;
  }
  [[nodiscard]] CUstream_st* fork(CUstream_st* stream) override {
    ++forks_;
    return stream;
  }
  void join(CUstream_st*) override { --forks_; }
  [[nodiscard]] int forks() const { return forks_; }
  [[nodiscard]] std::optional<std::string> async_error() override {
    return broken_ ? std::optional<std::string>{"a cable was pulled"} : std::nullopt;
  }
  void abort() noexcept override { ++aborts_; }

  void break_it() { broken_ = true; }
  [[nodiscard]] int aborts() const { return aborts_; }

 private:
  RecordedGroup group_;
  int rank_;
  std::shared_ptr<CallLog> log_;
  int index_;
  int batch_ = 0;
  int forks_ = 0;
  bool grouped_ = false;
  std::atomic<bool> broken_{false};
  std::atomic<int> aborts_{0};
};

/// Marks that are reached when a test says so.
class ManualMarks final : public DeviceMarks {
 public:
  explicit ManualMarks(int count) : count_{count} {}
  [[nodiscard]] int count() const override { return count_; }
  [[nodiscard]] bool set(int, CUstream_st*) override { return !capturing; }
  [[nodiscard]] bool reached(int) override { return open; }

  std::atomic<bool> open{false};
  bool capturing = false;

 private:
  int count_;
};

/// One rank of a world of recorders, with what a test needs to look into it.
struct RecordedRank {
  std::shared_ptr<CallLog> log = std::make_shared<CallLog>();
  std::shared_ptr<Journal> journal = std::make_shared<Journal>(100);
  RecordingNccl* world = nullptr;
  ManualMarks* marks = nullptr;
  std::string error;
  std::atomic<bool> failed{false};
  std::shared_ptr<NcclSession> session;

  RecordedRank(int rank, int ranks, int num_marks = 16) {
    RecordedGroup group{"world", {}};
    for (int r = 0; r < ranks; ++r) group.members.push_back(r);
    auto comm = std::make_unique<RecordingNccl>(group, rank, log);
    auto made = std::make_unique<ManualMarks>(num_marks);
    world = comm.get();
    marks = made.get();
    session = std::make_shared<NcclSession>(
        NcclSession::Parts{.world = std::move(comm),
                           .marks = std::move(made),
                           .journal = journal,
                           .description = "recorder",
                           .poll_s = 0.001,
                           .on_error = [this](const std::string& text) {
                             error = text;
                             failed = true;
                           }});
  }
};

}  // namespace shoal::comm
