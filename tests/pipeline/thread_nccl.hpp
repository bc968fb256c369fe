#pragma once
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "comm/nccl_comm.hpp"
#include "comm/side_queue.hpp"
#include "shoal/base/error.hpp"

namespace shoal::pipeline::test {

/// Where the ranks of one process, one thread each, hand over messages: as NCCL does, strictly in
/// turn between two ranks, and each side waits for the other one.
class MeetingPlace {
 public:
  struct Letter {
    const void* data = nullptr;
    std::int64_t bytes = 0;
    bool taken = false;
  };
  using Way = std::pair<int, int>;  ///< from, to

  std::shared_ptr<Letter> post(Way way, const void* data, std::int64_t bytes) {
    const std::lock_guard lock{mutex_};
    auto letter = std::make_shared<Letter>(Letter{data, bytes});
    letters_[way].push_back(letter);
    changed_.notify_all();
    return letter;
  }
  void take(Way way, void* into, std::int64_t bytes) {
    std::unique_lock lock{mutex_};
    auto& waiting = letters_[way];
    await(lock, [&] { return !waiting.empty(); });
    expect(waiting.front()->bytes == bytes, "a message of another size");
    std::memcpy(into, waiting.front()->data, static_cast<std::size_t>(bytes));
    waiting.front()->taken = true;
    waiting.erase(waiting.begin());
    changed_.notify_all();
  }
  void await_taken(const Letter& letter) {
    std::unique_lock lock{mutex_};
    await(lock, [&] { return letter.taken; });
  }

 private:
  template <class Condition>
  void await(std::unique_lock<std::mutex>& lock, Condition condition) {
    expect(changed_.wait_for(lock, std::chrono::seconds{5}, condition), "a deadlock");
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Way, std::vector<std::shared_ptr<Letter>>> letters_;
};

/// NCCL's messages between the threads of a process. A group has happened when group_end() returns:
/// work of both streams runs in the order of the host's calls. A device that has these orders only
/// within a stream, and by events that point back in time, is freer, so what runs here to the end
/// cannot come to a standstill there.
class ThreadNccl final : public comm::NcclComm {
 public:
  ThreadNccl(int rank, int size, std::shared_ptr<MeetingPlace> place)
      : rank_{rank}, size_{size}, place_{std::move(place)} {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::unique_ptr<NcclComm> split(const Split&) override { return nullptr; }
  void issue(const comm::NcclCall& call, const comm::NcclBuffers& buffers, CUstream_st*) override {
    calls_.emplace_back(call, buffers);
  }
  void group_start() override {}
  void group_end() override {
    std::vector<std::shared_ptr<MeetingPlace::Letter>> sent;
    for (const auto& [call, buffers] : calls_) {
      if (call.op != comm::Operation::send) continue;
      sent.push_back(place_->post({rank_, call.peer}, buffers.send, call.count));
    }
    for (const auto& [call, buffers] : calls_) {
      if (call.op == comm::Operation::recv) {
        place_->take({call.peer, rank_}, buffers.recv, call.count);
      }
    }
    for (const auto& letter : sent) place_->await_taken(*letter);
    calls_.clear();
  }
  [[nodiscard]] CUstream_st* fork(CUstream_st* stream) override { return stream; }
  void join(CUstream_st*) override {}
  [[nodiscard]] std::optional<std::string> async_error() override { return std::nullopt; }
  void abort() noexcept override {}

 private:
  int rank_, size_;
  std::shared_ptr<MeetingPlace> place_;
  std::vector<std::pair<comm::NcclCall, comm::NcclBuffers>> calls_;
};

/// Both streams run in the order of the host's calls.
class HostQueue final : public comm::SideQueue {
 public:
  [[nodiscard]] CUstream_st* stream() override { return nullptr; }
  void mark(int, CUstream_st*) override {}
  void wait(int, CUstream_st*) override {}
};

}  // namespace shoal::pipeline::test
