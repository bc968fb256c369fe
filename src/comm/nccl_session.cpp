#include "comm/nccl_session.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/comm/environment.hpp"

namespace shoal::comm {
namespace {

void end_job(const std::string& text) {
  std::cerr << "host " + Environment::host_name() + ": " + text + "\n" << std::flush;
  Environment::abort(static_cast<int>(ExitCode::failure));
}

}  // namespace

NcclSession::NcclSession(Parts parts) : parts_{std::move(parts)} {
  if (!parts_.on_error) parts_.on_error = end_job;
  free_marks_.resize(static_cast<std::size_t>(parts_.marks->count()));
  for (std::size_t m = 0; m < free_marks_.size(); ++m) free_marks_[m] = static_cast<int>(m);
  pending_.reserve(free_marks_.size());
  watched_.push_back(parts_.world.get());
  thread_ = std::thread{[this] { run(); }};
}

NcclSession::~NcclSession() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  end_reached();
}

std::unique_ptr<NcclComm> NcclSession::split(const NcclComm::Split& how) const {
  return parts_.world->split(how);
}

void NcclSession::end_with_stream(std::int64_t sequence, CUstream_st* stream) {
  {
    const std::lock_guard lock{mutex_};
    if (!free_marks_.empty() && parts_.marks->set(free_marks_.back(), stream)) {
      pending_.push_back({sequence, free_marks_.back()});
      free_marks_.pop_back();
      return;
    }
  }
  parts_.journal->end(sequence);  // nothing to see it by
}

void NcclSession::watch(NcclComm& comm) {
  const std::lock_guard lock{mutex_};
  watched_.push_back(&comm);
}

void NcclSession::forget(NcclComm& comm) {
  const std::lock_guard lock{mutex_};
  watched_.erase(std::remove(watched_.begin(), watched_.end(), &comm), watched_.end());
}

void NcclSession::abort() noexcept {
  if (aborted_.exchange(true)) return;
  const std::lock_guard lock{mutex_};
  for (NcclComm* comm : watched_) comm->abort();
}

void NcclSession::run() {
  parts_.marks->enter_thread();
  const std::chrono::duration<double> poll{parts_.poll_s};
  std::unique_lock lock{mutex_};
  while (!wake_.wait_for(lock, poll, [this] { return stopping_; })) {
    end_reached();
    if (aborted_) return;
    const std::string error = find_error();
    if (error.empty()) continue;
    lock.unlock();
    abort();
    parts_.on_error(error);
    return;
  }
}

/// The caller holds the mutex, or is the last user.
void NcclSession::end_reached() {
  const auto is_reached = [this](const Pending& p) {
    if (!parts_.marks->reached(p.mark)) return false;
    parts_.journal->end(p.sequence);
    free_marks_.push_back(p.mark);
    return true;
  };
  pending_.erase(std::remove_if(pending_.begin(), pending_.end(), is_reached), pending_.end());
}

std::string NcclSession::find_error() {
  for (NcclComm* comm : watched_) {
    if (const auto error = comm->async_error()) return *error;
  }
  return {};
}

}  // namespace shoal::comm
