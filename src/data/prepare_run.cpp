#include "data/prepare_run.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"

namespace shoal::data {

void PrepareRun::for_my_shards(const std::function<void(std::int64_t)>& work) const {
  for (std::int64_t s = comm.rank(); s < plan.num_shards(); s += comm.size()) work(s);
}

void together(const Communicator& comm, const std::function<void()>& work) {
  std::string problem;  // "i" or "e" for the kind of error, then its text
  try {
    work();
  } catch (const InputError& error) {
    problem = "i" + std::string{error.what()};
  } catch (const std::exception& error) {
    problem = "e" + std::string{error.what()};
  }
  for (const std::string& any : comm.all_gather_strings(problem)) {
    if (any.empty()) continue;
    if (any.front() == 'i') throw InputError{any.substr(1)};
    throw Error{any.substr(1)};
  }
}

Progress::Progress(const PrepareRun& run, std::string title)
    : title_{std::move(title)}, speaks_{run.comm.is_root()}, ranks_{run.comm.size()} {
  // Packed parts are estimated as in the plan: its total, by the share of the bytes on disk.
  std::int64_t mine = 0;
  run.for_my_shards([&](std::int64_t s) {
    for (std::int64_t p = run.plan.shard_begin[s]; p < run.plan.shard_begin[s + 1]; ++p) {
      mine += run.plan.parts[p].end - run.plan.parts[p].begin;
    }
  });
  const auto all = static_cast<double>(std::max<std::int64_t>(run.plan.bytes_on_disk, 1));
  expected_ = static_cast<std::int64_t>(static_cast<double>(run.plan.text_bytes) *
                                        (static_cast<double>(mine) / all));
}

std::string Progress::speed() const {
  const double rate = static_cast<double>(done_) / std::max(watch_.seconds(), 1e-6);
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%.1f MB/s on %lld rank%s",
                rate * static_cast<double>(ranks_) * 1e-6, static_cast<long long>(ranks_),
                ranks_ == 1 ? "" : "s");
  return text.data();
}

void Progress::add(std::int64_t text_bytes) {
  done_ += text_bytes;
  if (!speaks_ || watch_.seconds() < next_) return;
  next_ = watch_.seconds() + 2.0;
  const double share = std::min(
      0.99, static_cast<double>(done_) / static_cast<double>(std::max<std::int64_t>(expected_, 1)));
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), ": %.0f %%, %.0f s left, ", 100 * share,
                watch_.seconds() * (1 - share) / std::max(share, 1e-3));
  log::info(title_ + text.data() + speed());
}

void Progress::finish() const {
  if (!speaks_) return;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), ": done in %.1f s, ", watch_.seconds());
  log::info(title_ + text.data() + speed());
}

std::int64_t tail_cut(std::string_view text, double fraction) {
  auto cut = static_cast<std::size_t>(static_cast<double>(text.size()) * (1.0 - fraction));
  while (cut > 0 && cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80) {
    --cut;
  }
  return static_cast<std::int64_t>(cut);
}

}  // namespace shoal::data
