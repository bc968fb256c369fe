#include "shoal/comm/journal.hpp"

#include <algorithm>
#include <cstdio>

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
      "recv",         "send_recv", "send_wait",  "split"};
  return kNames.at(static_cast<std::size_t>(op));
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

Journal::Journal(std::int64_t capacity) {
  expect(capacity > 0, "the trace needs room for one operation");
  ring_.resize(static_cast<std::size_t>(capacity));
}

double Journal::now_s() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

std::int64_t Journal::begin(Operation op, std::string_view group, std::int64_t bytes) {
  const double start = now_s();
  const std::lock_guard lock{mutex_};
  TraceEntry& entry = ring_[static_cast<std::size_t>(next_) % ring_.size()];
  entry.sequence = next_;
  entry.op = op;
  entry.group.assign(group);
  entry.bytes = bytes;
  entry.done = false;
  entry.start_s = start;
  entry.wall_s = 0.0;
  return next_++;
}

void Journal::end(std::int64_t sequence) {
  const double now = now_s();
  const std::lock_guard lock{mutex_};
  TraceEntry& entry = ring_[static_cast<std::size_t>(sequence) % ring_.size()];
  entry.done = true;
  entry.wall_s = now - entry.start_s;
  Traffic& traffic = traffic_[static_cast<std::size_t>(entry.op)];
  ++traffic.calls;
  traffic.bytes += entry.bytes;
  traffic.seconds += entry.wall_s;
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
  if (next_ == 0) return std::nullopt;
  const TraceEntry& last = ring_[static_cast<std::size_t>(next_ - 1) % ring_.size()];
  return last.done ? std::nullopt : std::optional{last};
}

double Journal::age_s(const TraceEntry& entry) const {
  return now_s() - entry.start_s;
}

std::array<Journal::Traffic, kNumOperations> Journal::traffic() const {
  const std::lock_guard lock{mutex_};
  return traffic_;
}

Journal::Traffic Journal::traffic(Operation op) const {
  return traffic().at(static_cast<std::size_t>(op));
}

std::string Journal::describe() const {
  std::string text;
  for (const TraceEntry& e : entries()) {
    text +=
        "  #" + std::to_string(e.sequence) + " " + std::string{name(e.op)} + " on " + e.group +
        ", " + std::to_string(e.bytes) + " bytes, " +
        (e.done ? "done in " + seconds_text(e.wall_s) : "in flight for " + seconds_text(age_s(e))) +
        "\n";
  }
  return text;
}

}  // namespace shoal::comm
