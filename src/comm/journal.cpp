#include "shoal/comm/journal.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "comm/progress.hpp"
#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

[[nodiscard]] std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f s", seconds);
  return text;
}

}  // namespace

std::string_view name(Operation op) {
  static constexpr std::array<std::string_view, kNumOperations> kNames{
      "barrier",      "broadcast", "all_reduce", "reduce_scatter", "all_gather",
      "all_gather_v", "gather_v",  "all_to_all", "all_to_all_v",   "send",
      "recv",         "send_recv", "send_wait",  "split",          "launch"};
  return kNames.at(static_cast<std::size_t>(op));
}

bool involves_all_ranks(Operation op) {
  return op != Operation::send && op != Operation::recv && op != Operation::send_recv &&
         op != Operation::send_wait;
}

void WaitLog::add(std::string_view event, double seconds) {
  const std::lock_guard lock{mutex_};
  auto found = totals_.find(event);
  if (found == totals_.end()) found = totals_.emplace(std::string{event}, Total{}).first;
  ++found->second.count;
  found->second.seconds += seconds;
}

std::map<std::string, WaitLog::Total, std::less<>> WaitLog::totals() const {
  const std::lock_guard lock{mutex_};
  return totals_;
}

std::string WaitLog::describe() const {
  std::string text;
  for (const auto& [event, total] : totals()) {
    text += "  " + event + ": " + std::to_string(total.count) + " waits, " +
            seconds_text(total.seconds) + "\n";
  }
  return text;
}

Journal::Journal(std::int64_t capacity) : progress_{std::make_shared<RankProgress>()} {
  expect(capacity > 0, "the trace needs room for one operation");
  ring_.resize(static_cast<std::size_t>(capacity));
}
Journal::~Journal() = default;

double Journal::now_s() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

TraceEntry& Journal::at(std::int64_t sequence) {
  return ring_[static_cast<std::size_t>(sequence) % ring_.size()];
}
const TraceEntry& Journal::at(std::int64_t sequence) const {
  return ring_[static_cast<std::size_t>(sequence) % ring_.size()];
}

int Journal::open_group(std::uint64_t id, std::string_view name) {
  const std::lock_guard lock{mutex_};
  return progress_->open_group(id, name);
}

void Journal::publish_to(std::shared_ptr<RankProgress> where) {
  const std::lock_guard lock{mutex_};
  where->copy_from(*progress_);
  progress_ = std::move(where);
}

/// Shows the others the oldest operation in flight.
void Journal::publish_current() {
  CurrentOperation& current = progress_->current;
  if (oldest_open_ == next_) return current.op.store(-1);
  const TraceEntry& entry = at(oldest_open_);
  current.group.store(entry.group_index);
  current.number.store(entry.group_number);
  current.bytes.store(entry.bytes);
  current.since_s.store(entry.waited_s +
                        std::chrono::duration<double>(start_.time_since_epoch()).count());
  current.op.store(static_cast<int>(entry.op));
}

/// The caller holds the mutex.
TraceEntry& Journal::enter(Operation op, std::string_view group, std::int64_t bytes,
                           int group_index) {
  TraceEntry& entry = at(next_);
  entry.sequence = next_;
  entry.op = op;
  entry.group.assign(group);
  entry.group_index = group_index;
  entry.group_number = -1;
  if (group_index >= 0 && involves_all_ranks(op)) {
    entry.group_number = progress_->groups[static_cast<std::size_t>(group_index)].begun++;
  }
  entry.bytes = bytes;
  entry.done = entry.posted = false;
  entry.start_s = entry.waited_s = now_s();
  entry.wall_s = 0.0;
  Traffic& traffic = traffic_[static_cast<std::size_t>(op)];
  ++traffic.calls;
  traffic.bytes += bytes;
  ++next_;
  oldest_open_ = std::max(oldest_open_, next_ - std::ssize(ring_));  // older ones are forgotten
  return entry;
}

std::int64_t Journal::begin(Operation op, std::string_view group, std::int64_t bytes,
                            int group_index) {
  const std::lock_guard lock{mutex_};
  const TraceEntry& entry = enter(op, group, bytes, group_index);
  if (oldest_open_ == entry.sequence) publish_current();
  return entry.sequence;
}

std::int64_t Journal::post(Operation op, std::string_view group, std::int64_t bytes,
                           int group_index) {
  const std::lock_guard lock{mutex_};
  TraceEntry& entry = enter(op, group, bytes, group_index);
  entry.posted = true;
  if (oldest_open_ == entry.sequence) ++oldest_open_;
  return entry.sequence;
}

void Journal::wait(std::int64_t sequence) {
  const std::lock_guard lock{mutex_};
  TraceEntry& entry = at(sequence);
  if (entry.sequence != sequence || entry.done) return;
  entry.posted = false;
  entry.waited_s = now_s();
  if (sequence >= oldest_open_) return;
  oldest_open_ = sequence;
  publish_current();
}

/// Moves on to the next operation that the host waits in.
void Journal::show_oldest_open() {
  const auto open = [this](std::int64_t s) { return !at(s).done && !at(s).posted; };
  while (oldest_open_ < next_ && !open(oldest_open_)) ++oldest_open_;
  publish_current();
}

void Journal::end(std::int64_t sequence) {
  const double now = now_s();
  const std::lock_guard lock{mutex_};
  TraceEntry& entry = at(sequence);
  if (entry.sequence != sequence) return;  // overwritten: more were in flight than the ring holds
  entry.done = true;
  entry.wall_s = now - entry.start_s;
  if (!entry.posted) {
    traffic_[static_cast<std::size_t>(entry.op)].seconds += now - entry.waited_s;
  }
  if (entry.group_number >= 0) {
    ++progress_->groups[static_cast<std::size_t>(entry.group_index)].finished;
  }
  if (sequence == oldest_open_) show_oldest_open();
}

std::vector<TraceEntry> Journal::entries() const {
  const std::lock_guard lock{mutex_};
  const auto capacity = static_cast<std::int64_t>(ring_.size());
  std::vector<TraceEntry> ordered;
  for (std::int64_t s = std::max<std::int64_t>(0, next_ - capacity); s < next_; ++s) {
    ordered.push_back(ring_[static_cast<std::size_t>(s % capacity)]);
  }
  return ordered;
}

std::optional<TraceEntry> Journal::in_flight() const {
  const std::lock_guard lock{mutex_};
  return oldest_open_ == next_ ? std::nullopt : std::optional{at(oldest_open_)};
}

double Journal::age_s(const TraceEntry& entry) const {
  return now_s() - entry.waited_s;
}

std::array<Journal::Traffic, kNumOperations> Journal::traffic() const {
  const std::lock_guard lock{mutex_};
  return traffic_;
}

Journal::Traffic Journal::traffic(Operation op) const {
  return traffic().at(static_cast<std::size_t>(op));
}

std::string Journal::describe(std::size_t lines) const {
  const auto all = entries();
  std::string text;
  for (std::size_t i = all.size() - std::min(lines, all.size()); i < all.size(); ++i) {
    const TraceEntry& e = all[i];
    text += "  #" + std::to_string(e.sequence) + " " + std::string{name(e.op)} + " on " + e.group +
            ", " + std::to_string(e.bytes) + " bytes, " +
            (e.done ? "done in " + seconds_text(e.wall_s)
                    : (e.posted ? "posted " : "in flight for ") + seconds_text(age_s(e)) +
                          (e.posted ? " ago" : "")) +
            "\n";
  }
  return text;
}

}  // namespace shoal::comm
