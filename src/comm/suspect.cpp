#include "comm/suspect.hpp"

#include <fstream>

namespace shoal::comm {
namespace {

[[nodiscard]] const GroupProgress* group_of(const RankProgress& rank) {
  const int group = rank.current.group.load();
  return group < 0 ? nullptr : &rank.groups[static_cast<std::size_t>(group)];
}

[[nodiscard]] bool is_silent(const SuspectSearch& s, const RankProgress& rank) {
  return s.now_s - rank.alive_s.load() > s.silent_s;
}

/// Whom `waiter` waits for: the member of its group that has come least far, else a silent one;
/// `waiter` itself when there is none.
[[nodiscard]] std::size_t held_up_by(const SuspectSearch& s, std::size_t waiter) {
  const RankProgress& self = s.ranks[waiter];
  const GroupProgress* group = group_of(self);
  if (self.current.op.load() < 0 || group == nullptr) return waiter;
  std::size_t silent = waiter, late = waiter;
  std::int64_t least = self.current.number.load() + 1;  // calls begun by a member that has come
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    const GroupProgress* theirs = s.ranks[r].find(group->id);
    if (r == waiter || theirs == nullptr) continue;
    if (is_silent(s, s.ranks[r])) silent = r;
    if (theirs->begun.load() >= least) continue;
    least = theirs->begun.load();
    late = r;
  }
  return late != waiter ? late : silent;
}

[[nodiscard]] std::string seconds_text(double seconds) {
  return std::to_string(static_cast<long>(seconds)) + " s";
}

/// 'T' for a stopped process, '\0' when there is no such process.
[[nodiscard]] char process_state(int pid) {
  std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text.size() ? '\0' : text[name_end + 2];
}

[[nodiscard]] std::string operation_text(const RankProgress& rank) {
  const CurrentOperation& current = rank.current;
  const GroupProgress* group = group_of(rank);
  const std::string where = group == nullptr ? "a group" : std::string{name_of(*group)};
  const std::int64_t number = current.number.load();
  std::string text =
      number < 0 ? "a message on " + where : "call " + std::to_string(number) + " of " + where;
  return text + ", " + std::string{name(static_cast<Operation>(current.op.load()))} + " (" +
         std::to_string(current.bytes.load()) + " bytes),";
}

/// What the rank itself is doing.
[[nodiscard]] std::string condition(const SuspectSearch& s, const RankProgress& rank) {
  const char state = process_state(rank.pid.load());
  if (state == 'T' || state == 't') return "is stopped by a signal";
  if (state == '\0' || state == 'Z') return "has no living process";
  if (is_silent(s, rank)) {
    return "has shown no sign of life for " + seconds_text(s.now_s - rank.alive_s.load());
  }
  if (rank.current.op.load() < 0) return "runs, outside of any collective";
  return "waits in " + operation_text(rank) + " for " +
         seconds_text(s.now_s - rank.current.since_s.load());
}

[[nodiscard]] std::string finished_text(const RankProgress& rank, const GroupProgress& group) {
  const GroupProgress* own = rank.find(group.id);
  const std::int64_t finished = own == nullptr ? 0 : own->finished.load();
  const std::string where{name_of(group)};
  if (finished == 0) return "it has finished no call of " + where;
  return "it last finished call " + std::to_string(finished - 1) + " of " + where;
}

[[nodiscard]] Suspect follow(const SuspectSearch& s, std::size_t from) {
  Suspect found{from, from};
  for (std::size_t hop = 0; hop < s.ranks.size(); ++hop) {
    const std::size_t next = held_up_by(s, found.rank);
    if (next == found.rank) break;
    found = {next, found.rank};
    if (is_silent(s, s.ranks[next])) break;
  }
  return found;
}

}  // namespace

Suspect find_suspect(const SuspectSearch& s) {
  Suspect found = follow(s, s.from);
  // A message names no group call to compare; another rank's wait may show more.
  for (std::size_t r = 0; r < s.ranks.size() && found.rank == found.waiter; ++r) {
    found = follow(s, r);
  }
  return found;
}

std::string describe_suspect(const SuspectSearch& s) {
  const Suspect found = find_suspect(s);
  const RankProgress& late = s.ranks[found.rank];
  const RankProgress& waiter = s.ranks[found.waiter];
  if (found.rank == found.waiter) return "no rank of this host is behind";
  const std::string who = "rank " + std::to_string(late.rank.load());
  return who + " (pid " + std::to_string(late.pid.load()) +
         ") is behind: " + finished_text(late, *group_of(waiter)) + "; rank " +
         std::to_string(waiter.rank.load()) + " waits in " + operation_text(waiter) + " for " +
         seconds_text(s.now_s - waiter.current.since_s.load()) + ". R" + who.substr(1) + " " +
         condition(s, late);
}

}  // namespace shoal::comm
