#include "comm/progress.hpp"

#include <algorithm>
#include <chrono>

namespace shoal::comm {
namespace {

template <class T>
void copy_value(std::atomic<T>& to, const std::atomic<T>& from) {
  to.store(from.load());
}

}  // namespace

double monotonic_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int RankProgress::open_group(std::uint64_t id, std::string_view name) {
  const int count = num_groups.load();
  for (int g = 0; g < count; ++g) {
    if (groups[static_cast<std::size_t>(g)].id == id) return g;
  }
  if (count == kMaxGroups) return -1;
  GroupProgress& group = groups[static_cast<std::size_t>(count)];
  group.id = id;
  const std::size_t length = std::min(name.size(), GroupProgress::kNameBytes - 1);
  std::copy_n(name.data(), length, group.name.data());
  num_groups.store(count + 1, std::memory_order_release);  // readers see a finished entry
  return count;
}

const GroupProgress* RankProgress::find(std::uint64_t id) const {
  const auto count = static_cast<std::size_t>(num_groups.load(std::memory_order_acquire));
  for (std::size_t g = 0; g < count; ++g) {
    if (groups[g].id == id) return &groups[g];
  }
  return nullptr;
}

void RankProgress::copy_from(const RankProgress& other) {
  copy_value(current.group, other.current.group);
  copy_value(current.op, other.current.op);
  copy_value(current.number, other.current.number);
  copy_value(current.bytes, other.current.bytes);
  copy_value(current.since_s, other.current.since_s);
  for (int g = 0; g < other.num_groups.load(); ++g) {
    const GroupProgress& from = other.groups[static_cast<std::size_t>(g)];
    const int at = open_group(from.id, name_of(from));
    if (at < 0) continue;
    copy_value(groups[static_cast<std::size_t>(at)].begun, from.begun);
    copy_value(groups[static_cast<std::size_t>(at)].finished, from.finished);
  }
}

std::string_view name_of(const GroupProgress& group) {
  return group.name.data();
}

}  // namespace shoal::comm
