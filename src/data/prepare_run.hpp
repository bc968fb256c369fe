#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "shoal/base/clock.hpp"
#include "shoal/comm/communicator.hpp"
#include "shoal/data/prepare.hpp"

namespace shoal::data {

/// What the parts of `prepare` pass on: one object for the run.
struct PrepareRun {
  const PrepareConfig& config;
  const Communicator& comm;
  SourcePlan plan;
  std::string folder;  ///< where the output is gathered until it is complete

  /// Shards are dealt round-robin; called with each shard of this rank in ascending order.
  void for_my_shards(const std::function<void(std::int64_t)>& work) const;
};

/// Runs `work`, which must not communicate, on every rank; when it throws on any, all ranks throw:
/// an InputError everywhere with the text of the lowest such rank, otherwise an Error.
void together(const Communicator& comm, const std::function<void()>& work);

/// One line every two seconds from rank 0, which speaks for all: shards are alike.
class Progress {
 public:
  Progress(const PrepareRun& run, std::string title);
  void add(std::int64_t text_bytes);
  void finish() const;  ///< the last line: all of it and the speed
 private:
  [[nodiscard]] std::string speed() const;

  std::string title_;
  bool speaks_;
  std::int64_t ranks_;
  std::int64_t expected_ = 0;  ///< bytes of this rank's shards, an estimate for packed files
  std::int64_t done_ = 0;
  double next_ = 2.0;
  Stopwatch watch_;
};

/// Where a document stands in the order of the input, in one number.
[[nodiscard]] constexpr std::uint64_t document_index(std::int64_t shard, std::int64_t ordinal) {
  return (static_cast<std::uint64_t>(shard) << 40) | static_cast<std::uint64_t>(ordinal);
}

/// Bytes of `text` before its last `fraction`, cut before a whole character.
[[nodiscard]] std::int64_t tail_cut(std::string_view text, double fraction);

}  // namespace shoal::data
