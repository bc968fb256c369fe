#include "text/bpe_model.hpp"

#include <algorithm>
#include <cstring>
#include <queue>
#include <tuple>
#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::text {
namespace {

constexpr std::uint64_t kEmptyKey = ~std::uint64_t{0};

std::uint64_t key_of(std::uint32_t left, std::uint32_t right) {
  return (std::uint64_t{left} << 32) | right;
}

std::uint64_t mix(std::uint64_t x) {  // finaliser of SplitMix64 (Steele et al. 2014), shortened
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93U;
  return x ^ (x >> 32);
}

}  // namespace

BpeModel::BpeModel(Parts parts) : parts_{std::move(parts)} {
  std::uint64_t capacity = 16;
  while (capacity < 2 * parts_.merges.size()) capacity *= 2;
  slots_.assign(capacity, Slot{kEmptyKey, {kNoRank, 0}});
  mask_ = capacity - 1;
  for (std::size_t rank = 0; rank < parts_.merges.size(); ++rank) {
    const Merge& m = parts_.merges[rank];
    const std::uint64_t key = key_of(m.left, m.right);
    std::uint64_t i = mix(key) & mask_;
    while (slots_[i].key != kEmptyKey && slots_[i].key != key) i = (i + 1) & mask_;
    slots_[i] = {key, {static_cast<std::uint32_t>(rank), m.result}};
  }
  if (!bytes_only()) cache_ = std::make_unique<PieceCache>();
}

BpeModel::~BpeModel() = default;

BpeModel::Rule BpeModel::find(std::uint32_t left, std::uint32_t right) const {
  const std::uint64_t key = key_of(left, right);
  for (std::uint64_t i = mix(key) & mask_;; i = (i + 1) & mask_) {
    if (slots_[i].key == key) return slots_[i].rule;
    if (slots_[i].key == kEmptyKey) return {kNoRank, 0};
  }
}

void BpeModel::encode(const std::vector<std::string_view>& pieces,
                      std::vector<std::uint32_t>& ids) const {
  // A second thread at the same time works without the cache instead of waiting.
  const std::unique_lock lock{cache_mutex_, std::try_to_lock};
  if (!lock || !cache_) {
    for (const std::string_view piece : pieces) encode_piece(piece, ids);
    return;
  }
  for (std::size_t i = 0; i < pieces.size(); i += kBatch) {
    encode_batch(std::span{pieces}.subspan(i, std::min(kBatch, pieces.size() - i)), ids);
  }
}

/// All keys first: the cache lines of the later pieces arrive while the first ones are looked up.
void BpeModel::encode_batch(std::span<const std::string_view> pieces,
                            std::vector<std::uint32_t>& ids) const {
  std::array<PieceKey, kBatch> keys;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].size() > PieceKey::kMaxBytes) continue;
    keys[i] = PieceKey{pieces[i], PieceCache::kSlotMask};
    cache_->prefetch(keys[i]);
  }
  std::array<std::uint32_t, kBatch * PieceCache::kMaxIds> known;  // ids not appended yet
  std::size_t num_known = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    PieceCache::Entry& entry = (*cache_)[keys[i]];
    if (entry.holds(keys[i]) && keys[i].length != 0) [[likely]] {
      std::memcpy(&known[num_known], entry.ids.data(), sizeof(entry.ids));
      num_known += entry.num_ids;
      continue;
    }
    ids.insert(ids.end(), known.begin(), known.begin() + static_cast<std::ptrdiff_t>(num_known));
    num_known = 0;
    const std::size_t first = ids.size();
    encode_piece(pieces[i], ids);
    const std::size_t n = ids.size() - first;
    if (n <= PieceCache::kMaxIds && keys[i].length != 0) entry.set(keys[i], &ids[first], n);
  }
  ids.insert(ids.end(), known.begin(), known.begin() + static_cast<std::ptrdiff_t>(num_known));
}

void BpeModel::encode_piece(std::string_view piece, std::vector<std::uint32_t>& ids) const {
  if (!parts_.whole_pieces.empty()) {
    const auto whole = parts_.whole_pieces.find(std::string{piece});
    if (whole != parts_.whole_pieces.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  constexpr std::size_t kShort = 48;
  if (piece.size() <= kShort) {
    merge_short(piece, ids);
  } else {
    merge_long(piece, ids);
  }
}

/// Looks for the best pair again after every merge: quadratic, but the ranks of a short piece fit
/// in a few cache lines.
void BpeModel::merge_short(std::string_view piece, std::vector<std::uint32_t>& ids) const {
  const std::size_t first = ids.size();
  for (const char b : piece) ids.push_back(byte_id(static_cast<unsigned char>(b)));
  std::uint32_t* id = ids.data() + first;
  std::size_t n = piece.size();
  std::array<Rule, 64> rules;  // rules[i]: of the pair (i, i + 1)
  for (std::size_t i = 0; i + 1 < n; ++i) rules[i] = find(id[i], id[i + 1]);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (rules[i].rank < rules[best].rank) best = i;
    }
    if (rules[best].rank == kNoRank) break;
    id[best] = rules[best].result;
    std::copy(id + best + 2, id + n, id + best + 1);
    if (best + 2 < n) std::copy(&rules[best + 2], &rules[n - 1], &rules[best + 1]);
    --n;
    if (best > 0) rules[best - 1] = find(id[best - 1], id[best]);
    if (best + 1 < n) rules[best] = find(id[best], id[best + 1]);
  }
  ids.resize(first + n);
}

/// A heap of candidate pairs over a doubly linked list: O(n log n) for pieces of any length.
void BpeModel::merge_long(std::string_view piece, std::vector<std::uint32_t>& ids) const {
  struct Node {
    std::uint32_t id;
    std::int64_t previous, next;
  };
  struct Candidate {
    std::uint32_t rank;
    std::int64_t at;
    std::uint32_t left, right, result;
    bool operator>(const Candidate& o) const { return std::tie(rank, at) > std::tie(o.rank, o.at); }
  };
  const auto n = static_cast<std::int64_t>(piece.size());
  std::vector<Node> nodes(piece.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](std::int64_t at) {
    if (at < 0 || nodes[at].next >= n) return;
    const std::uint32_t left = nodes[at].id;
    const std::uint32_t right = nodes[nodes[at].next].id;
    const Rule rule = find(left, right);
    if (rule.rank != kNoRank) heap.push({rule.rank, at, left, right, rule.result});
  };
  for (std::int64_t i = 0; i < n; ++i) nodes[i] = {byte_id(piece[i]), i - 1, i + 1};
  for (std::int64_t i = 0; i < n; ++i) offer(i);
  constexpr std::uint32_t kGone = 0xFFFFFFFFU;
  while (!heap.empty()) {
    const Candidate c = heap.top();
    heap.pop();
    Node& node = nodes[c.at];
    // Stale: one of the two has been merged since this candidate was made.
    if (node.id != c.left || node.next >= n || nodes[node.next].id != c.right) continue;
    Node& gone = nodes[node.next];
    node.id = c.result;
    node.next = gone.next;
    gone.id = kGone;
    if (node.next < n) nodes[node.next].previous = c.at;
    offer(node.previous);
    offer(c.at);
  }
  for (std::int64_t i = 0; i < n; i = nodes[i].next) ids.push_back(nodes[i].id);
}

}  // namespace shoal::text
