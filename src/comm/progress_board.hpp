#pragma once
#include <memory>
#include <span>

#include "comm/progress.hpp"
#include "shoal/comm/communicator.hpp"

namespace shoal::comm {

/// The progress of the ranks of one host, in memory that they share: readable while a rank is
/// stopped, and without a message. Ranks of other hosts are not on it.
class ProgressBoard {
 public:
  /// Collective. Where memory cannot be shared each rank gets a board of its own.
  [[nodiscard]] static std::shared_ptr<ProgressBoard> share(const Communicator& world);
  [[nodiscard]] static std::shared_ptr<ProgressBoard> alone();

  [[nodiscard]] RankProgress& mine() { return ranks_[mine_]; }
  [[nodiscard]] std::span<const RankProgress> ranks() const { return ranks_; }
  [[nodiscard]] std::size_t mine_index() const { return mine_; }
  [[nodiscard]] bool all_ranks_are_here() const { return all_here_; }
  /// True for the one rank of the host that is first.
  [[nodiscard]] bool raise_alarm();
  [[nodiscard]] bool alarmed() const;

  struct Memory;  // what the ranks of a host share

 private:
  std::shared_ptr<Memory> memory_;
  std::span<RankProgress> ranks_;
  std::size_t mine_ = 0;
  bool all_here_ = true;
};

}  // namespace shoal::comm
