#include <map>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/comm/call_log.hpp"

namespace shoal::comm {
namespace {

[[nodiscard]] std::string text_of(const RecordedGroup& group) {
  std::string text = group.name + " [";
  for (std::size_t i = 0; i < group.members.size(); ++i) {
    text += (i > 0 ? " " : "") + std::to_string(group.members[i]);
  }
  return text + "]";
}

[[nodiscard]] std::string text_of(const RecordedCall& call) {
  static constexpr const char* kReduce[] = {"sum", "max", "min"};
  static constexpr const char* kType[] = {"f32", "f64", "i32", "i64", "u8",
                                          "u32", "u64", "f16", "bf16"};
  std::string text{name(call.op)};
  if (call.op == Operation::all_to_all_v) return text + " in rows of " + std::to_string(call.bytes);
  text += " of " + std::to_string(call.bytes) + " bytes";
  if (call.op == Operation::all_reduce || call.op == Operation::reduce_scatter) {
    text += ", " + std::string{kType[static_cast<std::size_t>(call.type)]} + ", " +
            kReduce[static_cast<std::size_t>(call.reduce)];
  }
  if (call.op == Operation::broadcast) text += ", root " + std::to_string(call.peer);
  if (call.op == Operation::send) text += " to member " + std::to_string(call.peer);
  if (call.op == Operation::recv) text += " from member " + std::to_string(call.peer);
  return text;
}

[[nodiscard]] bool same_collective(const RecordedCall& a, const RecordedCall& b) {
  return a.op == b.op && a.bytes == b.bytes && a.type == b.type && a.reduce == b.reduce &&
         a.peer == b.peer;
}

/// The calls of one rank on one stream, played from the front. The calls of a batch are all at the
/// front together.
struct Stream {
  int rank = 0;
  std::vector<std::size_t> calls;  ///< indices into the rank's calls
  std::size_t next = 0;
  std::vector<bool> met;  ///< of the batch at the front: messages whose other side was there
};

class Player {
 public:
  Player(std::span<const RankCalls> ranks, const SequenceRules& rules)
      : ranks_{ranks}, rules_{rules} {
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      for (std::size_t i = 0; i < ranks[r].calls.size(); ++i) {
        const int rank = static_cast<int>(r);
        Stream& stream = stream_of(rank, ranks[r].calls[i].group);
        stream.rank = rank;
        stream.calls.push_back(i);
      }
    }
  }

  [[nodiscard]] std::optional<std::string> play() {
    for (bool moved = true; moved && !problem_;) {
      moved = false;
      for (auto& [key, stream] : streams_) moved = advance(stream) || moved;
    }
    return problem_ ? problem_ : stuck();
  }

 private:
  [[nodiscard]] Stream& stream_of(int rank, int group) {
    return streams_[{rank, rules_.one_stream ? 0 : group}];
  }
  [[nodiscard]] const RecordedCall& call(const Stream& stream, std::size_t at) const {
    return ranks_[static_cast<std::size_t>(stream.rank)].calls[stream.calls[at]];
  }
  [[nodiscard]] const RecordedGroup& group(const Stream& stream, const RecordedCall& c) const {
    return ranks_[static_cast<std::size_t>(stream.rank)].groups[static_cast<std::size_t>(c.group)];
  }
  [[nodiscard]] std::size_t batch_end(const Stream& stream) const {
    const int batch = call(stream, stream.next).batch;
    std::size_t end = stream.next + 1;
    while (batch >= 0 && end < stream.calls.size() && call(stream, end).batch == batch) ++end;
    return end;
  }
  /// Where `rank` plays its calls of this group; null when it never made one.
  [[nodiscard]] Stream* find(int rank, const RecordedGroup& wanted) {
    if (rank < 0 || rank >= std::ssize(ranks_)) return nullptr;
    const auto& groups = ranks_[static_cast<std::size_t>(rank)].groups;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].name != wanted.name || groups[g].members != wanted.members) continue;
      const auto found = streams_.find({rank, rules_.one_stream ? 0 : static_cast<int>(g)});
      if (found != streams_.end()) return &found->second;
    }
    return nullptr;
  }
  /// Whether the stream has come to a collective of this group.
  [[nodiscard]] bool at_group(const Stream& stream, const RecordedGroup& wanted) const {
    if (stream.next == stream.calls.size()) return false;
    if (!involves_all_ranks(call(stream, stream.next).op)) return false;
    const RecordedGroup& here = group(stream, call(stream, stream.next));
    return here.name == wanted.name && here.members == wanted.members;
  }

  [[nodiscard]] bool advance(Stream& stream) {
    if (problem_ || stream.next == stream.calls.size()) return false;
    return involves_all_ranks(call(stream, stream.next).op) ? run_collective(stream)
                                                            : run_messages(stream);
  }

  [[nodiscard]] bool run_collective(Stream& stream) {
    const RecordedCall& mine = call(stream, stream.next);
    const RecordedGroup& members = group(stream, mine);
    std::vector<Stream*> all;
    for (const int rank : members.members) {
      Stream* other = find(rank, members);
      if (other == nullptr || !at_group(*other, members)) return false;
      all.push_back(other);
    }
    const Stream& first = *all.front();
    for (const Stream* other : all) {
      const Side mine_side{first, call(first, first.next)};
      const Side their_side{*other, call(*other, other->next)};
      if (same_collective(mine_side.call, their_side.call)) continue;
      return differ(mine_side, their_side);
    }
    if (mine.op == Operation::all_to_all_v && !rows_match(all)) return false;
    ++numbers_[text_of(members)];
    for (Stream* other : all) ++other->next;
    return true;
  }

  [[nodiscard]] bool rows_match(const std::vector<Stream*>& all) {
    for (std::size_t s = 0; s < all.size(); ++s) {
      for (std::size_t r = 0; r < all.size(); ++r) {
        const std::int64_t sent = call(*all[s], all[s]->next).send_rows.at(r);
        const std::int64_t expected = call(*all[r], all[r]->next).recv_rows.at(s);
        if (sent == expected) continue;
        const RecordedCall& c = call(*all[s], all[s]->next);
        problem_ = place(*all[s], c) + ": rank " + std::to_string(all[s]->rank) + " sends " +
                   std::to_string(sent) + " rows to rank " + std::to_string(all[r]->rank) +
                   ", which expects " + std::to_string(expected);
        return false;
      }
    }
    return true;
  }

  struct Side {
    const Stream& stream;
    const RecordedCall& call;
  };
  [[nodiscard]] bool differ(const Side& a, const Side& b) {
    const auto text = [](const Side& side) {
      return "rank " + std::to_string(side.stream.rank) + " calls " + text_of(side.call);
    };
    problem_ = place(a.stream, a.call) + ": " + text(a) + ", " + text(b);
    return false;
  }
  [[nodiscard]] std::string place(const Stream& stream, const RecordedCall& c) const {
    const std::string name = text_of(group(stream, c));
    const auto found = numbers_.find(name);
    return "call " + std::to_string(found == numbers_.end() ? 0 : found->second) + " of " + name;
  }

  /// Pairs the messages at the front with those at the front of their other sides.
  [[nodiscard]] bool run_messages(Stream& stream) {
    const std::size_t end = batch_end(stream);
    stream.met.resize(end - stream.next, false);
    bool moved = false, all_met = true;
    for (std::size_t at = stream.next; at < end; ++at) {
      if (!stream.met[at - stream.next]) {
        const bool met = call(stream, at).op == Operation::send && meet(stream, at);
        moved = moved || met;
      }
      all_met = all_met && stream.met[at - stream.next];
    }
    if (!all_met) return moved;
    stream.met.clear();
    stream.next = end;
    return true;
  }

  /// Sends look for their receives, so that each pair is found once.
  [[nodiscard]] bool meet(Stream& stream, std::size_t at) {
    const RecordedCall& mine = call(stream, at);
    const RecordedGroup& members = group(stream, mine);
    Stream* other = find(members.members.at(static_cast<std::size_t>(mine.peer)), members);
    if (other == nullptr || other->next == other->calls.size()) return false;
    const std::size_t end = batch_end(*other);
    other->met.resize(end - other->next, false);
    for (std::size_t i = other->next; i < end; ++i) {
      const RecordedCall& theirs = call(*other, i);
      const RecordedGroup& their_group = group(*other, theirs);
      const bool fits = theirs.op == Operation::recv && !other->met[i - other->next] &&
                        their_group.name == members.name &&
                        their_group.members == members.members &&
                        members.members.at(static_cast<std::size_t>(theirs.peer)) == stream.rank;
      if (!fits) continue;
      if (theirs.bytes != mine.bytes) return differ({stream, mine}, {*other, theirs});
      stream.met[at - stream.next] = true;
      other->met[i - other->next] = true;
      return true;
    }
    return false;
  }

  /// Nothing moves any more: names the calls that wait, if any.
  [[nodiscard]] std::optional<std::string> stuck() const {
    std::string text;
    for (const auto& [key, stream] : streams_) {
      if (stream.next == stream.calls.size()) continue;
      const RecordedCall& c = call(stream, stream.next);
      text += (text.empty() ? "" : "; ") + std::string{"rank "} + std::to_string(stream.rank) +
              " waits in " + text_of(c) + ", " + place(stream, c);
    }
    if (text.empty()) return std::nullopt;
    return text + "; all other calls have run";
  }

  std::span<const RankCalls> ranks_;
  SequenceRules rules_;
  std::map<std::pair<int, int>, Stream> streams_;
  std::map<std::string, int> numbers_;  ///< collectives that ran, by group
  std::optional<std::string> problem_;
};

}  // namespace

std::optional<std::string> check_sequences(std::span<const RankCalls> ranks,
                                           const SequenceRules& rules) {
  return Player{ranks, rules}.play();
}

}  // namespace shoal::comm
