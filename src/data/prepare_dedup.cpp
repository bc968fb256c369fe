#include <algorithm>
#include <numeric>
#include <tuple>

#include "data/prepare_survey.hpp"

namespace shoal::data {
namespace {

/// Values sorted by the rank they go to; what came in, by the rank it came from.
struct Mail {
  std::vector<std::uint64_t> values;
  std::vector<std::int64_t> counts;  ///< values for (from) each rank
};

Mail exchange(const Communicator& comm, const Mail& out) {
  Mail in;
  in.counts.resize(out.counts.size());
  comm.all_to_all(out.counts, in.counts);
  const std::int64_t received =
      std::accumulate(in.counts.begin(), in.counts.end(), std::int64_t{0});
  in.values.resize(static_cast<std::size_t>(received));
  comm.all_to_all_v<std::uint64_t>(
      {.send = out.values, .send_counts = out.counts, .recv = in.values, .recv_counts = in.counts});
  return in;
}

/// Three values a document: the key's halves and the index.
constexpr std::int64_t kFields = 3;

Mail address_keys(const Communicator& comm, std::span<const DocumentKey> keys) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  const auto owner = [&](const DocumentKey& k) { return k.key.high % ranks; };
  Mail mail;
  mail.counts.assign(ranks, 0);
  for (const DocumentKey& k : keys) mail.counts[owner(k)] += kFields;
  std::vector<std::int64_t> at(ranks, 0);
  std::partial_sum(mail.counts.begin(), mail.counts.end() - 1, at.begin() + 1);
  mail.values.resize(keys.size() * kFields);
  for (const DocumentKey& k : keys) {
    std::int64_t& place = at[owner(k)];
    for (const std::uint64_t value : {k.key.high, k.key.low, k.index}) mail.values[place++] = value;
  }
  return mail;
}

/// Indices of all but the first document of each key, for the ranks they came from.
Mail judge_keys(const Mail& in) {
  const auto field = [&](std::int64_t document, std::int64_t f) {
    return in.values[static_cast<std::size_t>(document * kFields + f)];
  };
  std::vector<std::int64_t> order(in.values.size() / kFields);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return std::make_tuple(field(a, 0), field(a, 1), field(a, 2)) <
           std::make_tuple(field(b, 0), field(b, 1), field(b, 2));
  });
  std::vector<std::int64_t> repeated;
  for (std::size_t i = 1; i < order.size(); ++i) {
    const bool same = field(order[i], 0) == field(order[i - 1], 0) &&
                      field(order[i], 1) == field(order[i - 1], 1);
    if (same) repeated.push_back(order[i]);
  }
  std::sort(repeated.begin(), repeated.end());  // back to the order, hence the ranks, of arrival
  Mail out;
  std::size_t next = 0;
  std::int64_t end = 0;
  for (const std::int64_t count : in.counts) {
    end += count / kFields;
    const std::size_t before = out.values.size();
    for (; next < repeated.size() && repeated[next] < end; ++next) {
      out.values.push_back(field(repeated[next], 2));
    }
    out.counts.push_back(static_cast<std::int64_t>(out.values.size() - before));
  }
  return out;
}

}  // namespace

std::vector<std::uint64_t> find_duplicates(const Communicator& comm,
                                           std::span<const DocumentKey> keys) {
  const Mail arrived = exchange(comm, address_keys(comm, keys));
  std::vector<std::uint64_t> mine = exchange(comm, judge_keys(arrived)).values;
  std::sort(mine.begin(), mine.end());
  return mine;
}

}  // namespace shoal::data
